"""Tests of ``posx.reporting.plots.length``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from fixtures.plotted import (
    LENGTHS,
    at,
    curve,
    draw,
    ink,
    named,
    only_axis,
    shelf,  # noqa: F401
    upright,
    xy,
)
from fixtures.records import ALIBI, ROPE, Shelf, by_document, hardness
from fixtures.stored_records import record
from posx.errors import PosxError
from posx.reporting.plots import plot
from posx.reporting.plots.length import plot_length
from posx.reporting.plots.style import MOST_LINES
from posx.results.aggregate import aggregate


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """What a failed drawing left open must not count against the next test."""
    yield
    plt.close("all")


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
    expected = {
        "rope": {64: base, 128: base - 0.05, 256: base + 1.0},
        "rope + pi": {256: base + 0.4},
        "alibi": {64: alone, 128: alone + 0.1},
    }
    assert lines.keys() == expected.keys()
    for name, points in expected.items():
        assert xy(lines[name]) == pytest.approx({x: math.exp(y) for x, y in points.items()}, rel=1e-5)
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    assert list(axis.get_xticks()) == [64, 128, 256]
    assert axis.xaxis.get_major_formatter()(128, 0) == "128\n2x"
    # rope and pi share a colour: their bars at 256 differ in height.
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
        value = expected[label if extension == "none" else "rope + pi"][length]
        assert low < math.exp(value) < high
    found = sorted(s for s in segments if s[0] in LENGTHS and s[1] > 1)  # not the dotted mark of L, from 0 to 1
    assert found == [pytest.approx(bar, rel=1e-5) for bar in sorted(bars)]


def test_an_error_bar_belongs_to_its_own_seeds(shelf: Shelf) -> None:
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


def test_both_files_are_complete_and_the_lines_have_labels(tmp_path: Path) -> None:
    records = [
        *curve("rope", [4.0, 4.2, 5.0, 6.0], 1),
        *curve("rope", [4.1, 4.1, 4.3, 4.6], 1, extension="pi"),
        *curve("alibi", [4.1, 4.0, 4.0, 4.0], 2),
        *curve("learned", [4.2, None, None, None], 3),
    ]
    png, text = draw(records, tmp_path)
    for name in ("rope", "rope + pi", "alibi", "learned", "trained at 64", "evaluation length (tokens)", "perplexity"):
        assert f"<!-- {name} -->" in text or f">{name}<" in text, name
    assert "100 test targets in 7 documents, fixed-targets, one seed" in text
    assert ink(png).sum() > 1000


def test_a_higher_perplexity_is_drawn_higher(tmp_path: Path) -> None:
    """The line rises from left to right exactly when its numbers do."""
    heights = []
    for number, nats in enumerate(([4.0, 4.5, 5.0, 5.5], [5.5, 5.0, 4.5, 4.0])):
        folder = tmp_path / str(number)
        folder.mkdir()
        png, _ = draw(curve("rope", nats), folder)
        rows, columns = np.nonzero(ink(png))
        left, right = rows[columns < np.quantile(columns, 0.1)], rows[columns > np.quantile(columns, 0.6)]
        heights.append(right.mean() - left.mean())
    assert heights[0] < -100 < 100 < heights[1]  # pixels count downwards


def test_cells_without_numbers_are_an_error_and_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(PosxError, match="no number to plot") as caught:
        plot("length", aggregate(curve("learned", [None, None])), tmp_path / "p")
    assert "posx table" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_one_cell_is_enough(tmp_path: Path) -> None:
    png, text = draw([record(4.0)], tmp_path)
    assert "rope" in text
    assert ink(png).sum() > 20  # its marker


def test_fine_tuned_models_are_left_out_if_there_are_too_many_lines() -> None:
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


def test_each_set_of_targets_has_a_panel(tmp_path: Path) -> None:
    records = [*curve("rope", [4.0, 4.2]), *curve("alibi", [4.0, 4.2], 1, targets_sha256="66" * 32)]
    _, text = draw(records, tmp_path)
    assert text.count("100 test targets in 7 documents") == 2
    axes = plot_length(aggregate(records)).axes
    assert [list(named(axis)) for axis in axes] == [["rope"], ["alibi"]]


def test_all_training_contexts_are_marked(tmp_path: Path) -> None:
    records = [*curve("rope", [4.0, 4.2]), record(4.0, length=256, base_context=256, label="long", run="long")]
    _, text = draw(records, tmp_path)
    assert "trained at 64" in text
    assert "trained at 256" in text


@pytest.mark.parametrize("nats", [[4.0, 800.0], [800.0, 900.0], [800.0]])
def test_an_infinite_perplexity_does_not_crash(tmp_path: Path, nats: list[float]) -> None:
    """exp(800) overflows. The table shows ∞; the plot leaves the cell out, or reports that there is nothing to plot."""
    assert all(math.isinf(cell.ppl or 0) for cell in aggregate(curve("rope", nats)) if cell.nats_per_token == 800.0)
    if len(nats) == 2 and nats[0] < 700:
        draw(curve("rope", nats), tmp_path)
        return
    with pytest.raises(PosxError) as caught:
        plot("length", aggregate(curve("rope", nats)), tmp_path / "p")
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_infinite_interval_is_left_out(shelf: Shelf) -> None:
    """The point is finite, but exp of its upper bound overflows."""
    shelf.row({128: (690.0, 20.0)}, **ROPE)
    cells = aggregate(shelf.records)
    interval = at(cells, "rope", 128).interval
    assert interval is not None
    assert hardness().mean() + interval.family[1] > 700
    figure = plot_length(cells)
    line = named(only_axis(figure))["rope"]
    assert upright(only_axis(figure), line) == {}
    figure.canvas.draw()


def test_validation_and_test_numbers_are_not_mixed(tmp_path: Path) -> None:
    records = [*curve("rope", [4.0, 4.2]), *curve("rope", [4.0, 4.2], split="validation", targets_sha256="66" * 32)]
    _, text = draw(records, tmp_path)
    assert "validation" not in text
