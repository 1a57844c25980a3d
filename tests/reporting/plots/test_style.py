"""Tests of ``posx.reporting.plots.style``."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from fixtures.plotted import (
    curve,
    draw,
    named,
    only_axis,
    shelf,  # noqa: F401
    xy,
)
from fixtures.records import Shelf
from fixtures.stored_records import record
from posx.errors import PosxError
from posx.reporting.plots import plot
from posx.reporting.plots.length import plot_length
from posx.reporting.plots.position import plot_position
from posx.results.aggregate import aggregate


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """What a failed drawing left open must not count against the next test."""
    yield
    plt.close("all")


def test_lines_can_be_distinguished_in_grey(tmp_path: Path) -> None:
    """Schemes differ in markers and extensions in dashes, not only in colour."""
    records = [
        *curve("rope", [4.0, 4.2, 5.0, 6.0], 1),
        *curve("rope", [4.1, 4.1, 4.3, 4.6], 1, extension="pi"),
        *curve("alibi", [4.1, 4.0, 4.0, 4.0], 2),
    ]
    lines = named(only_axis(plot_length(aggregate(records))))
    rope, pi, alibi = lines["rope"], lines["rope + pi"], lines["alibi"]
    assert rope.get_linestyle() == alibi.get_linestyle() != pi.get_linestyle()
    assert rope.get_marker() == pi.get_marker() != alibi.get_marker()
    assert rope.get_color() == pi.get_color() != alibi.get_color()
    assert to_hex(pi.get_markerfacecolor()) == "#ffffff" != to_hex(rope.get_markerfacecolor())
    plt.close("all")
    _, text = draw(records, tmp_path)
    name = "{http://www.w3.org/2000/svg}"
    styles = [p.get("style", "") for p in ElementTree.fromstring(text).iter(f"{name}path")]
    dashes = {s.partition("stroke-dasharray:")[2].split(";")[0] for s in styles if "stroke-width: 1.7" in s}
    assert len(dashes) == 2  # none, and pi


def test_the_extensions_of_a_single_scheme_have_different_colours() -> None:
    records = [r for n in ("none", "pi", "ntk") for r in curve("rope", [4.0, 4.2], 1, extension=n)]
    lines = named(only_axis(plot_length(aggregate(records))))
    assert len({to_hex(line.get_color()) for line in lines.values()}) == 3


def test_a_scheme_has_the_same_colour_in_every_plot(shelf: Shelf) -> None:
    for name, digit in (("t5", "1"), ("rope", "2"), ("alibi", "3")):
        own = {"label": name, "config_sha256": digit * 64}
        shelf.row({256: (0.2, 0.05)}, **own)
        shelf.curve(np.linspace(6, 4, 5 * 64), 64, [2, 3], **own)
    cells = aggregate(shelf.records)
    fixed = [c for c in cells if c.comparison.protocol == "fixed-targets"]
    pictures = [plot_length(fixed), plot_position(cells, "context"), plot_position(cells, "place")]
    pictures.append(plot_position(cells, "document"))
    colours = [{name: to_hex(line.get_color()) for name, line in named(only_axis(p)).items()} for p in pictures]
    assert colours[0].keys() == {"t5", "rope", "alibi"}
    assert all(one == colours[0] for one in colours)
    assert len(set(colours[0].values())) == 3


def test_many_labels(tmp_path: Path) -> None:
    """Twelve lines that end at the same height: more than there are colours, markers and space."""
    names = [f"scheme-{n}" for n in range(12)]
    records = [r for n, name in enumerate(names) for r in curve(name, [4.0, 4.0, 4.0, 4.0], n)]
    _, text = draw(records, tmp_path)
    for name in names:
        assert f"<!-- {name} -->" in text or f">{name}<" in text, name
    figure = plot_length(aggregate(records))
    figure.canvas.draw()
    ends = [t.get_window_extent() for t in only_axis(figure).texts if t.get_text() in names]
    assert len(ends) == 12
    ends.sort(key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(ends)), "names overlap"
    # No two lines look alike, though there are more of them than colours.
    lines = named(only_axis(figure)).values()
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}
    assert len(looks) == 12


def look_of(line: Line2D) -> tuple[str, str, str, str]:
    """All by which the eye tells one line from another."""
    return to_hex(line.get_color()), str(line.get_marker()), str(line.get_linestyle()), dashes_of(line)


def dashes_of(line: Line2D) -> str:
    """The pattern behind a line style, which matplotlib calls "--" for all that are given in numbers; and the face."""
    return f"{line._unscaled_dash_pattern} {to_hex(line.get_markerfacecolor())}"  # type: ignore[attr-defined]


def test_no_two_of_sixty_four_rows_look_alike() -> None:
    records = [r for n in range(64) for r in curve(f"scheme-{n:02d}", [4.0 + n / 100, 4.0], n)]
    lines = named(only_axis(plot_length(aggregate(records))))
    assert len(lines) == 64
    assert len({(to_hex(line.get_color()), line.get_marker()) for line in lines.values()}) == 64
    # Those that share a colour are in no two rounds of one marker, and the first eight have a colour each.
    assert len({to_hex(lines[f"scheme-{n:02d}"].get_color()) for n in range(8)}) == 8


@pytest.mark.parametrize("schemes", [1, 2])
def test_no_two_of_a_schemes_extensions_look_alike(schemes: int) -> None:
    """Six extensions, for example ntk(s=2) and ntk(s=4), with and without a second scheme."""
    names = ["none", "interpolate", "ntk(s=2)", "ntk(s=4)", "pi(s=2)", "pi(s=4)", "window(w=64)"]
    records = [r for name in names for r in curve("rope", [4.0, 4.2], 1, extension=name)]
    records += curve("alibi", [4.1, 4.0], 2) * (schemes - 1)
    lines = named(only_axis(plot_length(aggregate(records))))
    assert len(lines) == 6 + schemes
    looks = {name: look_of(line) for name, line in lines.items()}
    assert len(set(looks.values())) == len(looks), looks


def test_no_two_fine_tunes_of_one_model_look_alike() -> None:
    """With pi and with ntk, which have the same default label: "rope + 100 steps at 256"."""
    records = curve("rope", [4.0, 4.5, 5.0], 1)
    for number, name in enumerate(("pi", "ntk"), 2):
        own: dict[str, Any] = {"parent_sha256": f"{1:032x}" * 2, "train_context": 256, "train_extension": name}
        records += curve("rope + 100 steps at 256", [4.1, 4.2 + number / 10], number, extension="trained", **own)
    lines = named(only_axis(plot_length(aggregate(records))))
    assert len(lines) == 3
    looks = {name: look_of(line) for name, line in lines.items()}
    assert len(set(looks.values())) == 3, looks


def test_names_at_the_ends_of_lines_are_inside_the_picture() -> None:
    records = [*curve("a-scheme-with-a-very-long-name", [4.0, 4.2, 5.0, 6.0], 1), *curve("rope", [4.0, 4.1], 2)]
    figure = plot_length(aggregate(records))
    figure.canvas.draw()
    for text in only_axis(figure).texts:
        box = text.get_window_extent()
        assert box.x1 <= figure.bbox.x1, text.get_text()
        assert box.y1 <= figure.bbox.y1, text.get_text()


@pytest.mark.parametrize("label", ["<a> & b", "a--b", "100 % _$5", "$x_{$"])
def test_any_label_can_be_drawn(tmp_path: Path, label: str) -> None:
    draw(curve(label, [4.0, 4.2]), tmp_path)


@pytest.mark.parametrize("label", ["_hidden", "__init__"])
def test_a_label_with_a_leading_underscore_is_in_the_legend(label: str) -> None:
    """Matplotlib leaves such labels out of a legend."""
    figure = plot_length(aggregate(curve(label, [4.0, 4.2])))
    legend = only_axis(figure).get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [f" {label}"]
    assert f" {label}" in [text.get_text() for text in only_axis(figure).texts]
    assert xy(named(only_axis(figure))[f" {label}"]) == pytest.approx({64: math.exp(4.0), 128: math.exp(4.2)})


def test_an_old_plot_survives_a_failed_one(tmp_path: Path) -> None:
    draw([record(4.0)], tmp_path)
    before = (tmp_path / "p.png").read_bytes()
    with pytest.raises(PosxError):
        plot("length", aggregate([record(None)]), tmp_path / "p")
    assert (tmp_path / "p.png").read_bytes() == before


def test_a_directory_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PosxError, match="cannot be written") as caught:
        plot("length", aggregate([record(4.0)]), tmp_path / "file" / "p")
    assert "-o" in caught.value.hint
    assert plt.get_fignums() == []
