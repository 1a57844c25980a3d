"""Tests of ``posx.reporting.plots.finetune``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.scale import SymmetricalLogTransform

from fixtures.plotted import (
    TUNED,
    attainable,
    draw,
    fine_tuned,
    ink,
    named,
    only_axis,
    shelf,  # noqa: F401
    upright,
    xy,
)
from fixtures.records import ROPE, Shelf, hardness
from posx.reporting.plots.finetune import plot_finetune
from posx.results.aggregate import aggregate
from posx.results.finetune_curves import finetunes


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """What a failed drawing left open must not count against the next test."""
    yield
    plt.close("all")


@pytest.mark.parametrize("label", ["_hidden", "$x_{$"])
def test_fine_tuned_models_with_any_label_are_in_the_legend(shelf: Shelf, label: str) -> None:
    """If several models were fine-tuned, the names of lines start with their labels."""
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
    assert shown == {f"{name}, pi, fine-tuned at 256" for name in (label, "rope")}


def test_finetune_draws_the_change_from_the_base_model_at_1x_over_steps(shelf: Shelf) -> None:
    cells = fine_tuned(shelf)
    axis = only_axis(plot_finetune(cells))
    lines = named(axis)
    assert lines.keys() == {"pi, fine-tuned at 256", "no extension, fine-tuned at 256"}
    expected_points = {
        "pi, fine-tuned at 256": {0: 0.5, 100: 0.1, 400: -0.2},
        "no extension, fine-tuned at 256": {0: 0.9, 400: 0.3},
    }
    curves = {curve.extension: curve for curve in finetunes(cells)}
    for name, extension in (("pi, fine-tuned at 256", "pi"), ("no extension, fine-tuned at 256", "none")):
        assert xy(lines[name]) == pytest.approx(expected_points[name], abs=1e-5)
        assert list(xy(lines[name])) == sorted(expected_points[name])
        bars = upright(axis, lines[name])
        assert bars.keys() == expected_points[name].keys()
        for point in curves[extension].points:
            assert point.interval is not None
            assert bars[point.x] == pytest.approx(point.interval)
            assert bars[point.x][0] < expected_points[name][int(point.x)] < bars[point.x][1]
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


def test_fine_tuned_models_with_different_targets_have_separate_lines(shelf: Shelf) -> None:
    """Two target sets with different losses: a line through both would look like harmful training."""
    for change, own in ((0.0, {}), (1.0, {"targets_sha256": "66" * 32, "target_context": 1024})):
        shelf.put(hardness(), **own, **ROPE)
        for steps in (100, 400):
            tuned = TUNED | {"config_sha256": f"{steps:032x}" * 2, "train_steps": steps, "run": f"t{steps}"}
            shelf.put(hardness() + change - steps / 1000, **own, **tuned)
    cells = aggregate(shelf.records)
    found = {one.comparison.targets_sha256: one for one in finetunes(cells)}
    assert found.keys() == {"11" * 32, "66" * 32}
    assert len(finetunes(cells)) == 2
    expected_points = {"11" * 32: {100: -0.1, 400: -0.4}, "66" * 32: {100: 0.9, 400: 0.6}}
    for targets, one in found.items():
        assert {p.x: p.mean for p in one.points} == pytest.approx(expected_points[targets], abs=1e-5)
        assert [p.x for p in one.points] == [100, 400], "two target sets in one line"
    axes = plot_finetune(cells).axes
    assert [axis.get_title(loc="left") for axis in axes] == [
        f"sotu, test split, fixed targets {name}: evaluated at 256 tokens" for name in ("11111111", "66666666")
    ]
    for axis, points in zip(axes, expected_points.values(), strict=True):
        assert xy(named(axis)["pi, fine-tuned at 256"]) == pytest.approx(points, abs=1e-5)


def test_every_length_has_a_panel(shelf: Shelf) -> None:
    shelf.put(hardness(), **ROPE)
    for length in (256, 512):
        shelf.put(hardness() + 0.1, **(TUNED | {"length": length}))
    figure = plot_finetune(aggregate(shelf.records))
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == [f"sotu, test split, fixed targets: evaluated at {length} tokens" for length in (256, 512)]


def test_gain_and_finetune_plots_are_complete_files(tmp_path: Path) -> None:
    for kind, make in (("gain", lambda s: attainable(s, {"none": 0.1})), ("finetune", fine_tuned)):
        folder = tmp_path / kind
        shelf = Shelf(folder / "runs")
        make(shelf)
        png, _ = draw(shelf.records, folder, kind)
        assert ink(png).sum() > 50
