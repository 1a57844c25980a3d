"""Plots: what is drawn is what was measured, and whole files come out, whatever the cells are."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.scale import SymmetricalLogTransform

from helpers import posx
from posx.errors import PosxError
from posx.reporting.plots import MOST_LINES, plot, plot_finetune, plot_gain, plot_length, plot_position
from posx.results.aggregate import Cell, aggregate
from posx.results.curves import bucket_edges, by_context, by_each_document, by_place, finetunes, octaves
from posx.results.records import Record
from record_helpers import ALIBI, COUNTS, DOCUMENTS, LONG, RECIPE, ROPE, TARGETS, Shelf, by_document, hardness
from test_records import record, stored

LENGTHS = (64, 128, 256, 512)
# A fine-tune of ROPE with pi, at 256.
PI: dict[str, Any] = {
    "extension_params": {"pi": {"s": 4.0}}
}  # as it acts at 256, which is what a fine-tune is matched by
TUNED: dict[str, Any] = {
    **{"label": "rope-tuned", "scheme": "rope", "config_sha256": "77" * 32, "parent_sha256": "33" * 32},
    **{"train_context": 256, "train_extension": "pi", "extension": "trained", "length": 256},
    "extension_params": {"trained": {"pi": {"s": 4.0}}},
}


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """What a failed drawing left open must not count against the next test."""
    yield
    plt.close("all")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "runs")


def curve(label: str, nats: list[float | None], number: int = 0, **changes: object) -> list[Record]:
    """A row of cells at 1x, 2x, 4x, 8x, without losses."""
    return [
        record(value, label=label, run=label, length=length, config_sha256=f"{number:032x}" * 2, **changes)
        for length, value in zip(LENGTHS, nats, strict=False)
    ]


def draw(records: list[Record], folder: Path, kind: str = "length", by: str | None = None) -> tuple[Path, str]:
    """The PNG's path and the SVG's text, after both were found to be whole."""
    png, svg = plot(kind, aggregate(records), folder / "p", by)
    assert (png, svg) == (folder / "p.png", folder / "p.svg")
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == ["p.png", "p.svg"]
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert png.read_bytes()[-8:-4] == b"IEND"
    text = svg.read_text("utf-8")
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert plt.get_fignums() == [], "a figure is left open"
    return png, text


def ink(png: Path) -> np.ndarray:
    """Saturated pixels: the lines, and not axes, grid or text in grey."""
    image = matplotlib.image.imread(png)[..., :3]
    return image.max(-1) - image.min(-1) > 0.2


def named(axis: Axes) -> dict[str, Line2D]:
    """The lines that a legend would name."""
    lines = [line for line in axis.lines if not str(line.get_label()).startswith("_")]
    found = {str(line.get_label()): line for line in lines}
    assert len(found) == len(lines), "two lines under one name"
    return found


def xy(line: Line2D) -> dict[float, float]:
    """What a line goes through."""
    return dict(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))  # type: ignore[arg-type]


def upright(axis: Axes, like: Line2D) -> dict[float, tuple[float, float]]:
    """The bars in this line's colour: their places and both ends."""
    found = {}
    for line in axis.lines:
        xs, ys = list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))  # type: ignore[arg-type]
        own = str(line.get_label()).startswith("_") and to_hex(line.get_color()) == to_hex(like.get_color())
        if own and len(xs) == 2 and xs[0] == xs[1] and to_hex(line.get_color()) not in ("#737373",):
            assert xs[0] not in found
            found[xs[0]] = ys[0], ys[1]
    return found


def band(axis: Axes, like: Line2D) -> dict[float, tuple[float, float]]:
    """The filled band in this line's colour: its bounds at each place."""
    found: dict[float, tuple[float, float]] = {}
    for part in axis.collections:
        if to_hex(part.get_facecolor()[0]) != to_hex(like.get_color()):  # type: ignore[index]
            continue
        assert not found, "two bands in one colour"
        points = part.get_paths()[0].vertices
        for x in sorted(set(points[:, 0].tolist())):
            heights = points[points[:, 0] == x, 1]
            found[x] = float(heights.min()), float(heights.max())
    return found


def only_axis(figure: Figure) -> Axes:
    (axis,) = figure.axes
    return axis


def at(cells: list[Cell], label: str, length: int, extension: str = "none") -> Cell:
    wanted = (label, length, extension, 64)
    found = [c for c in cells if (c.group.label, c.length, c.group.extension, c.group.base_context) == wanted]
    assert len(found) == 1
    return found[0]


# ---------------------------------------------------------------- length


def test_length_draws_perplexity_and_the_interval_of_its_change(shelf: Shelf) -> None:
    """Points: exp of the mean over three seeds, from the arrays. Bars: exp(nats at 1x + bounds of the change)."""
    shelf.row({128: (-0.05, 0.02), 256: (1.0, 0.1)}, seeds=3, **ROPE)
    shelf.row({256: (0.4, 0.1)}, seeds=3, extension="pi", **ROPE)
    shelf.row({128: (0.1, 0.05)}, seeds=1, **ALIBI)
    cells = aggregate(shelf.records)
    axis = only_axis(plot_length(cells))
    lines = named(axis)
    base = sum(float(hardness(seed).mean()) for seed in range(3)) / 3
    alone = float(hardness(0).mean())
    wanted = {
        "rope": {64: base, 128: base - 0.05, 256: base + 1.0},
        "rope + pi": {256: base + 0.4},
        "alibi": {64: alone, 128: alone + 0.1},
    }
    assert lines.keys() == wanted.keys()
    for name, points in wanted.items():
        assert xy(lines[name]) == pytest.approx({x: math.exp(y) for x, y in points.items()}, rel=1e-5)
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    assert list(axis.get_xticks()) == [64, 128, 256]
    assert axis.xaxis.get_major_formatter()(128, 0) == "128\n2x"
    # rope and pi share a colour: their bars at 256 are told apart by their heights.
    segments = [
        (float(line.get_xdata()[0]), *map(float, line.get_ydata()))  # type: ignore[index, arg-type]
        for line in axis.lines
        if str(line.get_label()).startswith("_") and len(line.get_xdata()) == 2 and line.get_linestyle() == "-"  # type: ignore[arg-type]
    ]
    bars = []
    for label, length, extension, start in (
        *(("rope", 128, "none", base), ("rope", 256, "none", base)),
        *(("rope", 256, "pi", base), ("alibi", 128, "none", alone)),
    ):
        interval = at(cells, label, length, extension).interval
        assert interval is not None
        low, high = (math.exp(start + bound) for bound in interval.family)
        bars.append((length, low, high))
        value = wanted[label if extension == "none" else "rope + pi"][length]
        assert low < math.exp(value) < high
    found = sorted(s for s in segments if s[0] in LENGTHS and s[1] > 1)  # not the dotted mark of L, from 0 to 1
    assert found == [pytest.approx(bar, rel=1e-5) for bar in sorted(bars)]


def test_a_bar_stands_around_its_own_seeds(shelf: Shelf) -> None:
    """At 256 only seed 1 has a number: its bar is around the 1x of seed 1, not around the mean of both."""
    shelf.row({128: (0.1, 0.05)}, seeds=2, **ROPE)
    shelf.put(hardness(1) + by_document(0.3, 0.05), seed=1, length=256, **ROPE)
    cells = aggregate(shelf.records)
    axis = only_axis(plot_length(cells))
    line = named(axis)["rope"]
    interval = at(cells, "rope", 256).interval
    assert interval is not None
    own = float(hardness(1).mean())
    assert xy(line)[256] == pytest.approx(math.exp(own + 0.3), rel=1e-5)
    bars = upright(axis, line)
    assert bars.keys() == {128, 256}
    assert bars[256] == pytest.approx(tuple(math.exp(own + bound) for bound in interval.family), rel=1e-5)


def test_without_losses_there_are_points_and_no_bars(tmp_path: Path) -> None:
    axis = only_axis(plot_length(aggregate(curve("rope", [4.0, 4.2, 5.0]))))
    line = named(axis)["rope"]
    assert xy(line) == pytest.approx({64: math.exp(4.0), 128: math.exp(4.2), 256: math.exp(5.0)})
    assert upright(axis, line) == {}


def test_both_files_are_whole_and_the_drawing_names_its_lines(tmp_path: Path) -> None:
    records = [
        *curve("rope", [4.0, 4.2, 5.0, 6.0], 1),
        *curve("rope", [4.1, 4.1, 4.3, 4.6], 1, extension="pi"),
        *curve("alibi", [4.1, 4.0, 4.0, 4.0], 2),
        *curve("learned", [4.2, None, None, None], 3),
    ]
    png, text = draw(records, tmp_path)
    for name in ("rope", "rope + pi", "alibi", "learned", "trained at 64", "evaluation context (tokens)", "perplexity"):
        assert f"<!-- {name} -->" in text or f">{name}<" in text, name
    assert "100 test targets in 7 documents, fixed-targets, one seed" in text
    assert ink(png).sum() > 1000


def test_lines_differ_in_grey_too(tmp_path: Path) -> None:
    """Colour alone does not carry what is what: schemes have markers of their own, extensions dashes."""
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


def test_one_schemes_extensions_have_a_colour_each() -> None:
    records = [r for n in ("none", "pi", "ntk") for r in curve("rope", [4.0, 4.2], 1, extension=n)]
    lines = named(only_axis(plot_length(aggregate(records))))
    assert len({to_hex(line.get_color()) for line in lines.values()}) == 3


def test_a_scheme_keeps_its_colour_from_kind_to_kind(shelf: Shelf) -> None:
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


def test_a_higher_perplexity_is_drawn_higher(tmp_path: Path) -> None:
    """The one line rises from left to right where its numbers do."""
    heights = []
    for number, nats in enumerate(([4.0, 4.5, 5.0, 5.5], [5.5, 5.0, 4.5, 4.0])):
        folder = tmp_path / str(number)
        folder.mkdir()
        png, _ = draw(curve("rope", nats), folder)
        rows, columns = np.nonzero(ink(png))
        left, right = rows[columns < np.quantile(columns, 0.1)], rows[columns > np.quantile(columns, 0.6)]
        heights.append(right.mean() - left.mean())
    assert heights[0] < -100 < 100 < heights[1]  # pixels count downwards


def test_only_dashes_are_a_sentence_and_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(PosxError, match="no number to plot") as caught:
        plot("length", aggregate(curve("learned", [None, None])), tmp_path / "p")
    assert "posx table" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_one_cell_is_enough(tmp_path: Path) -> None:
    png, text = draw([record(4.0)], tmp_path)
    assert "rope" in text
    assert ink(png).sum() > 20  # its marker


def test_many_labels(tmp_path: Path) -> None:
    """Twelve lines that end at one height: more than there are colours, markers and room."""
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
    """Six extensions, as --extension ntk(s=2) ntk(s=4) … makes them, beside another scheme and alone."""
    names = ["none", "interpolate", "ntk(s=2)", "ntk(s=4)", "pi(s=2)", "pi(s=4)", "window(w=64)"]
    records = [r for name in names for r in curve("rope", [4.0, 4.2], 1, extension=name)]
    records += curve("alibi", [4.1, 4.0], 2) * (schemes - 1)
    lines = named(only_axis(plot_length(aggregate(records))))
    assert len(lines) == 6 + schemes
    looks = {name: look_of(line) for name, line in lines.items()}
    assert len(set(looks.values())) == len(looks), looks


def test_no_two_fine_tunes_of_one_model_look_alike() -> None:
    """With pi and with ntk, under the one label that posx gives both: "rope + 100 steps at 256"."""
    records = curve("rope", [4.0, 4.5, 5.0], 1)
    for number, name in enumerate(("pi", "ntk"), 2):
        own: dict[str, Any] = {"parent_sha256": f"{1:032x}" * 2, "train_context": 256, "train_extension": name}
        records += curve("rope + 100 steps at 256", [4.1, 4.2 + number / 10], number, extension="trained", **own)
    lines = named(only_axis(plot_length(aggregate(records))))
    assert len(lines) == 3
    looks = {name: look_of(line) for name, line in lines.items()}
    assert len(set(looks.values())) == 3, looks


def test_names_at_the_lines_ends_lie_inside_the_picture() -> None:
    records = [*curve("a-scheme-with-a-very-long-name", [4.0, 4.2, 5.0, 6.0], 1), *curve("rope", [4.0, 4.1], 2)]
    figure = plot_length(aggregate(records))
    figure.canvas.draw()
    for text in only_axis(figure).texts:
        box = text.get_window_extent()
        assert box.x1 <= figure.bbox.x1, text.get_text()
        assert box.y1 <= figure.bbox.y1, text.get_text()


def test_fine_tunes_are_left_to_their_own_picture_where_there_are_too_many_lines() -> None:
    few = [r for n in range(MOST_LINES - 1) for r in curve(f"s{n}", [4.0, 4.2], n)]
    tuned = curve("tuned", [4.0, 4.1], 99, parent_sha256=f"{0:032x}" * 2)
    assert "tuned" in named(only_axis(plot_length(aggregate([*few, *tuned]))))
    more = [*few, *curve("one-more", [4.0, 4.2], 98), *tuned]
    assert named(only_axis(plot_length(aggregate(more)))).keys() == {r.label for r in more} - {"tuned"}


def test_the_title_counts_the_seeds(tmp_path: Path) -> None:
    records = [
        record(nats + 0.3 * seed, seed=seed, run=f"rope-{seed}", length=length)
        for seed in range(3)
        for length, nats in zip(LENGTHS, (4.0, 4.2, 4.4, 4.6), strict=True)
    ]
    assert "3 seeds" in draw(records, tmp_path)[1]


def test_unlike_targets_have_a_panel_each(tmp_path: Path) -> None:
    records = [*curve("rope", [4.0, 4.2]), *curve("alibi", [4.0, 4.2], 1, targets_sha256="66" * 32)]
    _, text = draw(records, tmp_path)
    assert text.count("100 test targets in 7 documents") == 2
    axes = plot_length(aggregate(records)).axes
    assert [list(named(axis)) for axis in axes] == [["rope"], ["alibi"]]


def test_unlike_training_contexts_are_all_marked(tmp_path: Path) -> None:
    records = [*curve("rope", [4.0, 4.2]), record(4.0, length=256, base_context=256, label="long", run="long")]
    _, text = draw(records, tmp_path)
    assert "trained at 64" in text
    assert "trained at 256" in text


@pytest.mark.parametrize("label", ["<a> & b", "a--b", "100 % _$5", "$x_{$"])
def test_any_label_can_be_drawn(tmp_path: Path, label: str) -> None:
    draw(curve(label, [4.0, 4.2]), tmp_path)


@pytest.mark.parametrize("label", ["_hidden", "__init__"])
def test_a_label_that_begins_with_an_underscore_is_still_named(label: str) -> None:
    """Matplotlib leaves such labels out of a legend."""
    figure = plot_length(aggregate(curve(label, [4.0, 4.2])))
    legend = only_axis(figure).get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [f" {label}"]
    assert f" {label}" in [text.get_text() for text in only_axis(figure).texts]
    assert xy(named(only_axis(figure))[f" {label}"]) == pytest.approx({64: math.exp(4.0), 128: math.exp(4.2)})


@pytest.mark.parametrize("label", ["_hidden", "$x_{$"])
def test_a_fine_tuned_model_of_any_label_is_named(shelf: Shelf, label: str) -> None:
    """Where several models were fine-tuned, their labels begin the names of the lines."""
    for name, digit in ((label, "1"), ("rope", "2")):
        first = {"label": name, "scheme": "rope", "config_sha256": digit * 64, "run": f"first{digit}"}
        shelf.put(hardness(), **first)
        own = {"parent_sha256": digit * 64, "config_sha256": digit.replace("1", "a").replace("2", "b") * 64}
        shelf.put(hardness() - 0.1, **(TUNED | own), train_steps=100, run=f"tuned{digit}")
    figure = plot_finetune(aggregate(shelf.records))
    figure.canvas.draw()
    legend = only_axis(figure).get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 2
    shown = {text.get_text().strip().replace("\\$", "$") for text in legend.get_texts()}
    assert shown == {f"{name}, pi, trained on at 256" for name in (label, "rope")}


@pytest.mark.parametrize("nats", [[4.0, 800.0], [800.0, 900.0], [800.0]])
def test_a_perplexity_past_all_numbers_does_not_crash(tmp_path: Path, nats: list[float]) -> None:
    """exp(800) is no float. The cell is in the table as ∞; the plot leaves it out, or says that there is none."""
    assert all(math.isinf(cell.ppl or 0) for cell in aggregate(curve("rope", nats)) if cell.nats_per_token == 800.0)
    if len(nats) == 2 and nats[0] < 700:
        draw(curve("rope", nats), tmp_path)
        return
    with pytest.raises(PosxError) as caught:
        plot("length", aggregate(curve("rope", nats)), tmp_path / "p")
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_interval_past_all_numbers_is_left_out(shelf: Shelf) -> None:
    """The point is a float, exp of its upper bound is none."""
    shelf.row({128: (690.0, 20.0)}, **ROPE)
    cells = aggregate(shelf.records)
    interval = at(cells, "rope", 128).interval
    assert interval is not None
    assert hardness().mean() + interval.family[1] > 700
    figure = plot_length(cells)
    line = named(only_axis(figure))["rope"]
    assert upright(only_axis(figure), line) == {}
    figure.canvas.draw()


# ---------------------------------------------------------------- by context


def test_buckets_of_context_part_all_contexts() -> None:
    assert bucket_edges(20).tolist() == [1, 2, 3, 4, 6, 8, 12, 16, 24]
    assert octaves(16).tolist()[:6] == [1, 2, 3, 5, 9, 17]
    for edges_of in (bucket_edges, octaves):
        for longest in (1, 2, 3, 4, 5, 7, 8, 63, 64, 65, 96, 100, 1000):
            edges = edges_of(longest).tolist()
            for context in range(1, longest + 1):
                assert sum(low <= context < high for low, high in pairwise(edges)) == 1
            assert edges == sorted(set(edges))


@pytest.mark.parametrize("length", [64, 100])
def test_nats_by_context_are_the_means_of_their_buckets(shelf: Shelf, length: int) -> None:
    """Two seeds, six documents of unlike size; every mean again by plain loops."""
    windows = [1, 3, 2, 1, 4, 2]
    kept = []
    for seed in range(2):
        draw_ = np.random.default_rng([3, seed])
        context = np.tile(np.arange(1, length + 1), sum(windows))
        nll = (6 - 0.3 * np.log2(context) + 0.2 * draw_.standard_normal(len(context))).astype(np.float32)
        kept.append((context.tolist(), nll.tolist()))
        shelf.curve(nll, length, windows, seed=seed, **ROPE)
    (cell,) = aggregate(shelf.records)
    line = by_context(cell)
    edges = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    wanted = {}
    for low, high in pairwise(edges):
        inside = [n for contexts, values in kept for c, n in zip(contexts, values, strict=True) if low <= c < high]
        if inside:
            wanted[math.sqrt(low * min(high - 1, length))] = sum(inside) / len(inside)
    assert {p.x: p.mean for p in line.points} == pytest.approx(wanted, rel=1e-5)
    assert len(wanted) == {64: 12, 100: 13}[length]
    for point in line.points:
        assert point.interval is not None
        assert point.interval[0] < point.mean < point.interval[1]
        assert point.interval[1] - point.interval[0] < 5
    # Drawn as it was computed.
    axis = only_axis(plot_position([cell]))
    (drawn,) = named(axis).values()
    assert xy(drawn) == pytest.approx(wanted, rel=1e-5)
    bounds = band(axis, drawn)
    assert bounds.keys() == {p.x for p in line.points}
    assert all(bounds[p.x] == pytest.approx(p.interval) for p in line.points)
    assert axis.get_ylabel() == "nats/token"
    assert f"windows of {length}" in axis.get_xlabel()


def test_curves_of_two_lengths_have_a_panel_each(shelf: Shelf) -> None:
    """Whole windows of 64 and of 256 score other tokens, and have hashes of their own."""
    for length, windows in ((64, [4, 8, 2]), (256, [1, 2, 1])):
        for label in (ROPE, ALIBI):
            shelf.curve(np.linspace(6, 4, sum(windows) * length), length, windows, **label)
    axes = plot_position(aggregate(shelf.records)).axes
    assert [set(named(axis)) for axis in axes] == [{"rope", "alibi"}] * 2
    assert [axis.get_xlabel().rpartition(" ")[2] for axis in axes] == ["64", "256"]


# ---------------------------------------------------------------- in documents


def test_changes_by_place_are_the_means_of_equal_parts(shelf: Shelf) -> None:
    """128 targets at unlike positions: eight parts of 16, by plain sorting."""
    position = 512 + 3 * np.random.default_rng(5).permutation(TARGETS)
    change = by_document(0.2, 0.1) + 0.001 * (position - 512)
    for seed in range(2):
        shelf.put(hardness(seed), position=position, seed=seed, **ROPE)
        shelf.put(hardness(seed) + (1 + seed) * change, position=position, seed=seed, length=256, **ROPE)
    cells = aggregate(shelf.records)
    line = by_place(at(cells, "rope", 256), at(cells, "rope", 64))
    pairs = sorted(zip(position.tolist(), (1.5 * change).tolist(), strict=True))
    parts = [pairs[start : start + 16] for start in range(0, 128, 16)]
    wanted = {sum(x for x, _ in part) / 16: sum(y for _, y in part) / 16 for part in parts}
    assert {p.x: p.mean for p in line.points} == pytest.approx(wanted, abs=1e-5)
    assert sum(p.mean for p in line.points) / 8 == pytest.approx(1.5 * float(change.mean()), abs=1e-5)
    axis = only_axis(plot_position(cells, "place"))
    drawn = named(axis)["rope"]
    assert xy(drawn) == pytest.approx(wanted, abs=1e-5)
    bounds = band(axis, drawn)
    assert bounds.keys() == wanted.keys()
    for point in line.points:
        assert point.interval is not None
        assert point.interval[0] < point.mean < point.interval[1]
        assert bounds[point.x] == pytest.approx(point.interval)
    assert axis.get_ylabel() == "change at 256 against 1x (nats/token)"


def test_a_document_is_compared_under_the_same_weights(shelf: Shelf) -> None:
    """Seeds 0 and 1 have a number at 1x, seeds 1 and 2 at 8x: as many on either side, and only seed 1 on both."""
    change = by_document(0.1, 0.3, seed=7)
    for seed in (0, 1):
        shelf.put(hardness(seed), seed=seed, **ROPE)
    for seed in (1, 2):
        shelf.put(hardness(seed) + change, seed=seed, length=512, **ROPE)
    cells = aggregate(shelf.records)
    line = by_each_document(at(cells, "rope", 512), at(cells, "rope", 64))
    wanted = sorted(float(change[document == DOCUMENTS].mean()) for document in np.unique(DOCUMENTS))
    assert [p.mean for p in line.points] == pytest.approx(wanted, abs=1e-5)


def test_changes_by_document_go_from_gain_to_loss(shelf: Shelf) -> None:
    """One point a document: the mean over seeds, with their range; by plain loops."""
    changes = []
    for seed in range(3):
        change = by_document(0.1, 0.3, seed=seed)
        changes.append(change)
        shelf.put(hardness(seed), seed=seed, **ROPE)
        shelf.put(hardness(seed) + change, seed=seed, length=512, **ROPE)
    cells = aggregate(shelf.records)
    line = by_each_document(at(cells, "rope", 512), at(cells, "rope", 64))
    each = []
    for document in sorted(set(DOCUMENTS.tolist())):
        which = [n for n, d in enumerate(DOCUMENTS) if d == document]
        means = [sum(float(change[n]) for n in which) / len(which) for change in changes]
        each.append((sum(means) / 3, min(means), max(means)))
    each.sort()
    assert len(each) == len(COUNTS)
    assert [p.x for p in line.points] == list(range(1, len(each) + 1))
    assert [p.mean for p in line.points] == pytest.approx([mean for mean, _, _ in each], abs=1e-5)
    for point, (_, low, high) in zip(line.points, each, strict=True):
        assert point.interval == pytest.approx((low, high), abs=1e-5)
    axis = only_axis(plot_position(cells, "document"))
    drawn = named(axis)["rope"]
    assert list(xy(drawn).values()) == pytest.approx([mean for mean, _, _ in each], abs=1e-5)
    assert list(band(axis, drawn).values()) == [pytest.approx((low, high), abs=1e-5) for _, low, high in each]
    (one,) = [c for c in aggregate([r for r in shelf.records if r.seed == 0]) if c.length == 512]
    control = next(c for c in aggregate([r for r in shelf.records if r.seed == 0]) if c.length == 64)
    assert {p.interval for p in by_each_document(one, control).points} == {None}


def test_positions_are_drawn_at_the_longest_length_with_extensions_against_the_model_as_trained(shelf: Shelf) -> None:
    shelf.row({128: (0.1, 0.05), 256: (0.9, 0.05)}, **ROPE)
    shelf.row({256: (0.3, 0.05)}, extension="pi", **ROPE)
    shelf.row({128: (0.2, 0.05)}, **ALIBI)  # not evaluated at 256
    axis = only_axis(plot_position(aggregate(shelf.records), "document"))
    lines = named(axis)
    assert lines.keys() == {"rope", "rope + pi"}
    weights = COUNTS / COUNTS.sum()
    for name, mean in (("rope", 0.9), ("rope + pi", 0.3)):
        # by_document has its mean over targets; over documents it is a little else.
        change = by_document(mean, 0.05, seed=256)
        by = [change[d == DOCUMENTS].mean() for d in np.unique(DOCUMENTS)]
        assert np.dot(weights, by) == pytest.approx(mean)
        assert sorted(xy(lines[name]).values()) == pytest.approx(sorted(by), abs=1e-5)


# ---------------------------------------------------------------- gain


def attainable(shelf: Shelf, changes: dict[str, float], seeds: int = 2) -> list[Cell]:
    """At 256 the long model gains 0.40; the change of rope with each extension."""
    for seed in range(seeds):
        base, own = hardness(seed), {"seed": seed, "recipe_sha256": RECIPE}
        shelf.put(base, **own, **ROPE)
        for number, (name, change) in enumerate(changes.items()):
            after = base + by_document(change, 0.02, seed=number)
            shelf.put(after, length=256, extension=name, **own, **ROPE)
        shelf.put(base + by_document(-0.40, 0.02, seed=9), length=256, run=f"long{seed}", **own, **LONG)
    return aggregate(shelf.records)


def test_gain_draws_shares_with_their_intervals(shelf: Shelf) -> None:
    """−0.2/0.4 = 50 % by pi, 0.04/0.4 = −10 % by none."""
    cells = attainable(shelf, {"none": 0.04, "pi": -0.2})
    axis = only_axis(plot_gain(cells))
    labels = [text.get_text() for text in axis.get_yticklabels()]
    assert labels == ["rope + pi, 256", "rope, 256"]  # from below: in the order of the table from above
    dots = {float(line.get_ydata()[0]): line for line in axis.lines if len(line.get_xdata()) == 1}  # type: ignore[index, arg-type]
    assert float(dots[0].get_xdata()[0]) == pytest.approx(0.5, abs=1e-4)  # type: ignore[index]
    assert float(dots[1].get_xdata()[0]) == pytest.approx(-0.1, abs=1e-4)  # type: ignore[index]
    spans = {
        float(line.get_ydata()[0]): tuple(map(float, line.get_xdata()))  # type: ignore[index, arg-type]
        for line in axis.lines
        if len(line.get_xdata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]  # type: ignore[index, arg-type]
    }
    for place, extension, share in ((0, "pi", 0.5), (1, "none", -0.1)):
        found = at(cells, "rope", 256, extension).share
        assert found is not None
        assert found.interval is not None
        assert spans[place] == pytest.approx(found.interval)
        assert spans[place][0] < share < spans[place][1]
    marks = sorted(next(iter(line.get_xdata())) for line in axis.lines if list(line.get_ydata()) == [0, 1])  # type: ignore[arg-type]
    assert marks == [0.0, 1.0]


def test_a_share_out_of_sight_is_an_arrow_with_its_number(shelf: Shelf) -> None:
    """+1.2 nats where there were 0.40 to gain: −300 %; −0.8: 200 %."""
    axis = only_axis(plot_gain(attainable(shelf, {"none": 1.2, "pi": -0.8})))
    arrows = {line.get_marker(): float(line.get_xdata()[0]) for line in axis.lines if line.get_marker() in ("<", ">")}  # type: ignore[index]
    assert arrows == {"<": -1.0, ">": 1.5}
    assert {"-300%", "200%"} <= {text.get_text() for text in axis.texts}
    low, high = axis.get_xlim()
    assert low < -1.0 < 1.5 < high


def test_nothing_written_beside_the_bars_is_cut_off(shelf: Shelf) -> None:
    figure = plot_gain(attainable(shelf, {"none": 0.1, "window(w=64)+interpolate(how=linear)": -0.1}))
    figure.canvas.draw()
    axis = only_axis(figure)
    for text in (axis.xaxis.label, *axis.get_yticklabels(), *axis.texts):
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0, text.get_text()
        assert box.x1 <= figure.bbox.x1, text.get_text()


# ---------------------------------------------------------------- fine-tuning


def fine_tuned(shelf: Shelf) -> list[Cell]:
    """pi untrained +0.5 at 256; after 100 steps +0.1, after 400 −0.2. Without pi after 400: +0.3. Two seeds."""
    for seed in range(2):
        base = hardness(seed)
        shelf.put(base, seed=seed, **ROPE)
        shelf.put(base + by_document(0.5, 0.05, seed=1), seed=seed, length=256, extension="pi", **ROPE, **PI)
        shelf.put(base + by_document(0.9, 0.05, seed=2), seed=seed, length=256, **ROPE)
        for steps, change in ((400, -0.2), (100, 0.1)):
            own = TUNED | {"config_sha256": f"{steps:032x}" * 2, "train_steps": steps, "run": f"t{steps}-{seed}"}
            shelf.put(base + by_document(change, 0.05, seed=steps), seed=seed, **own)
        bare = TUNED | {"config_sha256": "bb" * 32, "train_steps": 400, "train_extension": "none", "extension": "none"}
        bare |= {"extension_params": {}}
        shelf.put(base + by_document(0.3, 0.05, seed=3), seed=seed, **bare, run=f"bare{seed}")
    return aggregate(shelf.records)


def test_finetune_draws_the_change_against_the_first_models_1x_over_steps(shelf: Shelf) -> None:
    cells = fine_tuned(shelf)
    axis = only_axis(plot_finetune(cells))
    lines = named(axis)
    assert lines.keys() == {"pi, trained on at 256", "no extension, trained on at 256"}
    wanted = {
        "pi, trained on at 256": {0: 0.5, 100: 0.1, 400: -0.2},
        "no extension, trained on at 256": {0: 0.9, 400: 0.3},
    }
    curves = {curve.extension: curve for curve in finetunes(cells)}
    for name, extension in (("pi, trained on at 256", "pi"), ("no extension, trained on at 256", "none")):
        assert xy(lines[name]) == pytest.approx(wanted[name], abs=1e-5)
        assert list(xy(lines[name])) == sorted(wanted[name])
        bars = upright(axis, lines[name])
        assert bars.keys() == wanted[name].keys()
        for point in curves[extension].points:
            assert point.interval is not None
            assert bars[point.x] == pytest.approx(point.interval)
            assert bars[point.x][0] < wanted[name][int(point.x)] < bars[point.x][1]
    low, high = axis.get_xlim()
    assert low == pytest.approx(-10)  # a tenth of the first step
    assert high >= 400
    assert axis.get_title(loc="left") == "sotu, test split, fixed targets: evaluated at 256 tokens"
    # Linear up to the first step, in 0.4 of the width of a decade.
    assert axis.get_xscale() == "symlog"
    transform = axis.xaxis.get_transform()
    assert isinstance(transform, SymmetricalLogTransform)
    assert (transform.base, transform.linthresh, transform.linscale) == (10, 100, 0.4)
    assert list(axis.get_xticks()) == [0, 100, 400]
    assert [axis.xaxis.get_major_formatter()(x, 0) for x in (0, 100, 400)] == ["0", "100", "400"]
    for one in curves.values():
        assert (one.length, one.comparison) == (256, cells[0].comparison)


def test_fine_tunes_over_unlike_targets_never_share_a_line(shelf: Shelf) -> None:
    """Two target sets of the test split, of another level each: a line through both would say that training hurt."""
    for change, own in ((0.0, {}), (1.0, {"targets_sha256": "66" * 32, "target_context": 1024})):
        shelf.put(hardness(), **own, **ROPE)
        for steps in (100, 400):
            tuned = TUNED | {"config_sha256": f"{steps:032x}" * 2, "train_steps": steps, "run": f"t{steps}"}
            shelf.put(hardness() + change - steps / 1000, **own, **tuned)
    cells = aggregate(shelf.records)
    found = {one.comparison.targets_sha256: one for one in finetunes(cells)}
    assert found.keys() == {"11" * 32, "66" * 32}
    assert len(finetunes(cells)) == 2
    wanted = {"11" * 32: {100: -0.1, 400: -0.4}, "66" * 32: {100: 0.9, 400: 0.6}}
    for targets, one in found.items():
        assert {p.x: p.mean for p in one.points} == pytest.approx(wanted[targets], abs=1e-5)
        assert [p.x for p in one.points] == [100, 400], "two target sets in one line"
    axes = plot_finetune(cells).axes
    assert [axis.get_title(loc="left") for axis in axes] == [
        f"sotu, test split, fixed targets {name}: evaluated at 256 tokens" for name in ("11111111", "66666666")
    ]
    for axis, points in zip(axes, wanted.values(), strict=True):
        assert xy(named(axis)["pi, trained on at 256"]) == pytest.approx(points, abs=1e-5)


def test_every_length_has_a_panel(shelf: Shelf) -> None:
    shelf.put(hardness(), **ROPE)
    for length in (256, 512):
        shelf.put(hardness() + 0.1, **(TUNED | {"length": length}))
    figure = plot_finetune(aggregate(shelf.records))
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == [f"sotu, test split, fixed targets: evaluated at {length} tokens" for length in (256, 512)]


# ---------------------------------------------------------------- files and the command


@pytest.mark.parametrize("kind, by", [("position", "context"), ("position", "place"), ("position", "document")])
def test_positions_come_out_as_whole_files(tmp_path: Path, kind: str, by: str) -> None:
    shelf = Shelf(tmp_path / "runs")
    shelf.row({256: (0.2, 0.05)}, **ROPE)
    shelf.curve(np.linspace(6, 4, 5 * 64), 64, [2, 3], **ROPE)
    png, _ = draw(shelf.records, tmp_path, kind, by)
    assert ink(png).sum() > 500


def test_gain_and_finetune_come_out_as_whole_files(tmp_path: Path) -> None:
    for kind, make in (("gain", lambda s: attainable(s, {"none": 0.1})), ("finetune", fine_tuned)):
        folder = tmp_path / kind
        shelf = Shelf(folder / "runs")
        make(shelf)
        png, _ = draw(shelf.records, folder, kind)
        assert ink(png).sum() > 50


def test_an_old_plot_survives_a_failed_one(tmp_path: Path) -> None:
    draw([record(4.0)], tmp_path)
    before = (tmp_path / "p.png").read_bytes()
    with pytest.raises(PosxError):
        plot("length", aggregate([record(None)]), tmp_path / "p")
    assert (tmp_path / "p.png").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PosxError, match="cannot be written") as caught:
        plot("length", aggregate([record(4.0)]), tmp_path / "file" / "p")
    assert "-o" in caught.value.hint
    assert plt.get_fignums() == []


def test_validation_numbers_are_not_drawn_beside_those_of_the_test_split(tmp_path: Path) -> None:
    records = [*curve("rope", [4.0, 4.2]), *curve("rope", [4.0, 4.2], split="validation", targets_sha256="66" * 32)]
    _, text = draw(records, tmp_path)
    assert "validation" not in text


def refused(*arguments: object) -> str:
    """The error of a command: exit code 2, nothing on standard output, a sentence and a way out."""
    result = posx(*arguments, code=2)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    message = result.stderr.partition("Error: ")[2]
    lines = [line for line in message.splitlines() if line.strip()]
    assert len(lines) == 2, result.stderr
    return " ".join(lines)


def test_the_command_names_its_files_by_kind(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    fine_tuned(shelf)
    attainable(Shelf(tmp_path / "gain"), {"none": 0.1})
    there = ("--runs-dir", tmp_path)
    assert posx("plot", *there).stdout.split() == [str(tmp_path / f"perplexity.{s}") for s in ("png", "svg")]
    assert posx("plot", "--kind", "finetune", *there).stdout.split()[0] == str(tmp_path / "finetune.png")
    done = posx("plot", "--kind", "gain", "--runs-dir", tmp_path / "gain", "-o", tmp_path / "new" / "figure.svg")
    assert done.stdout.split() == [str(tmp_path / "new" / f"figure.{s}") for s in ("png", "svg")]
    assert "Next: posx table" in done.stderr


def test_a_mistake_is_a_sentence(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record(5.0), record(5.5, length=128))
    there = ("--runs-dir", runs)
    before = sorted(tmp_path.rglob("*"))
    assert "no kind of plot 'heatmap'" in refused("plot", "--kind", "heatmap", *there)
    assert "There are: context, document, place." in refused("plot", "--kind", "position", "--by", "time", *there)
    assert "no run 'rope-seed1'" in refused("plot", "rope-seed1", *there)
    assert "no evaluations" in refused("plot", "--runs-dir", tmp_path / "nowhere")
    assert "no attainable gain" in refused("plot", "--kind", "gain", *there)
    assert "controls: [4x]" in refused("plot", "--kind", "gain", *there)
    assert "no fine-tuning" in refused("plot", "--kind", "finetune", *there)
    assert "no curve" in refused("plot", "--kind", "position", *there)
    assert "--protocol curve" in refused("plot", "--kind", "position", *there)
    for by in ("place", "document"):
        assert "NLL of targets is not there" in refused("plot", "--kind", "position", "--by", by, *there)
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "file").touch()
    assert "cannot be written" in refused("plot", "-o", tmp_path / "file" / "p", *there)


@pytest.mark.parametrize("kind", ["length", "gain", "finetune", "position"])
def test_an_unknown_way_is_refused_for_every_kind(tmp_path: Path, kind: str) -> None:
    runs = stored(tmp_path / "runs", record(5.0), record(5.5, length=128))
    message = refused("plot", "--kind", kind, "--by", "time", "--runs-dir", runs)
    assert "no way to draw positions 'time'" in message
    assert "There are: context, document, place." in message
    with pytest.raises(PosxError, match="no way to draw positions 'time'"):
        plot(kind, aggregate([record(5.0)]), tmp_path / "p", "time")


@pytest.mark.parametrize("kind", ["length", "gain", "finetune"])
@pytest.mark.parametrize("by", ["context", "place", "document"])
def test_a_way_to_draw_positions_is_refused_for_other_kinds(tmp_path: Path, kind: str, by: str) -> None:
    runs = stored(tmp_path / "runs", record(5.0), record(5.5, length=128))
    before = sorted(tmp_path.rglob("*"))
    message = refused("plot", "--kind", kind, "--by", by, "--runs-dir", runs)
    assert f"--by {by} is for --kind position, but {kind} was asked." in message
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(PosxError, match="is for --kind position"):
        plot(kind, aggregate([record(5.0)]), tmp_path / "p", by)


def test_positions_are_drawn_over_context_unless_another_way_is_asked(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "runs")
    shelf.row({256: (0.2, 0.05)}, **ROPE)
    shelf.curve(np.linspace(6, 4, 5 * 64), 64, [2, 3], **ROPE)
    texts = []
    for number, by in enumerate((None, "context", "place")):
        (folder := tmp_path / str(number)).mkdir()
        texts.append(draw(shelf.records, folder, "position", by)[1])
    assert ["available context (tokens), in windows of 64" in text for text in texts] == [True, True, False]


def test_a_curve_without_its_losses_is_a_sentence(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record(5.0, protocol="curve", length=256))
    assert "their NLL is not beside the records" in refused("plot", "--kind", "position", "--runs-dir", runs)


def test_records_without_losses_can_still_be_drawn_over_length(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record(5.0), record(5.5, length=128))
    assert "perplexity.png" in posx("plot", "--runs-dir", runs).stdout
