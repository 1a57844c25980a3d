"""Tests of ``posx.reporting.plots.position``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from fixtures.plotted import (
    at,
    draw,
    ink,
    named,
    only_axis,
    shelf,  # noqa: F401
    xy,
)
from fixtures.records import ALIBI, COUNTS, DOCUMENTS, ROPE, TARGETS, Shelf, by_document, hardness
from posx.reporting.plots.position import plot_position
from posx.results.aggregate import aggregate
from posx.results.curves import by_context, by_each_document, by_place


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """What a failed drawing left open must not count against the next test."""
    yield
    plt.close("all")


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


@pytest.mark.parametrize("length", [64, 100])
def test_nats_by_context_are_the_means_of_their_buckets(shelf: Shelf, length: int) -> None:
    """Two seeds, six documents of different sizes; every mean recomputed with loops."""
    windows = [1, 3, 2, 1, 4, 2]
    selected = []
    for seed in range(2):
        draw_ = np.random.default_rng([3, seed])
        context = np.tile(np.arange(1, length + 1), sum(windows))
        nll = (6 - 0.3 * np.log2(context) + 0.2 * draw_.standard_normal(len(context))).astype(np.float32)
        selected.append((context.tolist(), nll.tolist()))
        shelf.curve(nll, length, windows, seed=seed, **ROPE)
    (cell,) = aggregate(shelf.records)
    line = by_context(cell)
    edges = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    expected_points = {}
    for low, high in pairwise(edges):
        inside = [n for contexts, values in selected for c, n in zip(contexts, values, strict=True) if low <= c < high]
        if inside:
            expected_points[math.sqrt(low * min(high - 1, length))] = sum(inside) / len(inside)
    assert {p.x: p.mean for p in line.points} == pytest.approx(expected_points, rel=1e-5)
    assert len(expected_points) == {64: 12, 100: 13}[length]
    for point in line.points:
        assert point.interval is not None
        assert point.interval[0] < point.mean < point.interval[1]
        assert point.interval[1] - point.interval[0] < 5
    # Drawn as it was computed.
    axis = only_axis(plot_position([cell]))
    (drawn,) = named(axis).values()
    assert xy(drawn) == pytest.approx(expected_points, rel=1e-5)
    bounds = band(axis, drawn)
    assert bounds.keys() == {p.x for p in line.points}
    assert all(bounds[p.x] == pytest.approx(p.interval) for p in line.points)
    assert axis.get_ylabel() == "nats/token"
    assert f"windows of {length}" in axis.get_xlabel()


def test_curves_of_two_lengths_have_a_panel_each(shelf: Shelf) -> None:
    """Windows of 64 and of 256 tokens score different targets and have different hashes."""
    for length, windows in ((64, [4, 8, 2]), (256, [1, 2, 1])):
        for label in (ROPE, ALIBI):
            shelf.curve(np.linspace(6, 4, sum(windows) * length), length, windows, **label)
    axes = plot_position(aggregate(shelf.records)).axes
    assert [set(named(axis)) for axis in axes] == [{"rope", "alibi"}] * 2
    assert [axis.get_xlabel().rpartition(" ")[2] for axis in axes] == ["64", "256"]


def test_changes_by_position_are_means_of_equal_parts(shelf: Shelf) -> None:
    """128 targets at different positions: eight parts of 16, recomputed by sorting."""
    position = 512 + 3 * np.random.default_rng(5).permutation(TARGETS)
    change = by_document(0.2, 0.1) + 0.001 * (position - 512)
    for seed in range(2):
        shelf.put(hardness(seed), position=position, seed=seed, **ROPE)
        shelf.put(hardness(seed) + (1 + seed) * change, position=position, seed=seed, length=256, **ROPE)
    cells = aggregate(shelf.records)
    line = by_place(at(cells, "rope", 256), at(cells, "rope", 64))
    pairs = sorted(zip(position.tolist(), (1.5 * change).tolist(), strict=True))
    parts = [pairs[start : start + 16] for start in range(0, 128, 16)]
    expected_points = {sum(x for x, _ in part) / 16: sum(y for _, y in part) / 16 for part in parts}
    assert {p.x: p.mean for p in line.points} == pytest.approx(expected_points, abs=1e-5)
    assert sum(p.mean for p in line.points) / 8 == pytest.approx(1.5 * float(change.mean()), abs=1e-5)
    axis = only_axis(plot_position(cells, "place"))
    drawn = named(axis)["rope"]
    assert xy(drawn) == pytest.approx(expected_points, abs=1e-5)
    bounds = band(axis, drawn)
    assert bounds.keys() == expected_points.keys()
    for point in line.points:
        assert point.interval is not None
        assert point.interval[0] < point.mean < point.interval[1]
        assert bounds[point.x] == pytest.approx(point.interval)
    assert axis.get_ylabel() == "change at 256 from 1x (nats/token)"


def test_changes_by_document_go_from_gain_to_loss(shelf: Shelf) -> None:
    """One point per document: the mean over seeds and their range, recomputed with loops."""
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


def test_positions_are_drawn_at_the_longest_length_relative_to_the_model_as_trained(shelf: Shelf) -> None:
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


@pytest.mark.parametrize("kind, by", [("position", "context"), ("position", "place"), ("position", "document")])
def test_position_plots_are_complete_files(tmp_path: Path, kind: str, by: str) -> None:
    shelf = Shelf(tmp_path / "runs")
    shelf.row({256: (0.2, 0.05)}, **ROPE)
    shelf.curve(np.linspace(6, 4, 5 * 64), 64, [2, 3], **ROPE)
    png, _ = draw(shelf.records, tmp_path, kind, by)
    assert ink(png).sum() > 500


def test_positions_are_drawn_over_context_by_default(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "runs")
    shelf.row({256: (0.2, 0.05)}, **ROPE)
    shelf.curve(np.linspace(6, 4, 5 * 64), 64, [2, 3], **ROPE)
    texts = []
    for number, by in enumerate((None, "context", "place")):
        (folder := tmp_path / str(number)).mkdir()
        texts.append(draw(shelf.records, folder, "position", by)[1])
    assert ["available context (tokens), in windows of 64" in text for text in texts] == [True, True, False]
