"""The change from the base model at 1x over the steps of fine-tuning."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posx.reporting.plots.base import NothingToDraw
from posx.reporting.plots.style import (
    COLOURS,
    DASHES,
    canvas,
    finish,
    legend,
    mark_no_change,
    marker_of,
    shown_name,
    ticks,
)
from posx.results.cells import Cell
from posx.results.finetune_curves import FinetuneCurve, finetunes


def plot_finetune(cells: list[Cell]) -> Figure:
    """One panel for each evaluation length."""
    curves = finetunes([cell for cell in cells if cell.comparison.protocol == "fixed-targets"])
    if not curves:
        raise NothingToDraw(
            "There is no fine-tuning to plot: no run among these was fine-tuned from another of them.",
            "Try posx sweep finetune, or posx train --from RUN --extension pi train.context=4x.",
        )
    panels = sorted({(c.comparison.targets_sha256, c.length) for c in curves})
    several_targets = len({targets for targets, _ in panels}) > 1
    styles = sorted({_style(curve) for curve in curves})
    several = len({name for name, *_ in styles}) > 1
    figure, axes = canvas(len(panels), 3.8)
    for (targets, length), axis in zip(panels, axes, strict=True):
        own = [c for c in curves if (c.comparison.targets_sha256, c.length) == (targets, length)]
        for curve in own:
            _draw_curve(axis, curve, _name(curve, several), styles.index(_style(curve)))
        mark_no_change(axis)
        steps = sorted({p.x for c in curves for p in c.points})
        least = min([s for s in steps if s > 0], default=1.0)
        axis.set_xscale("symlog", linthresh=least, linscale=0.4)
        axis.set_xlim(left=-0.1 * least)
        ticks(axis, steps, lambda x: f"{x:g}")
        axis.set_xlabel("fine-tuning steps (0: before fine-tuning)")
        axis.set_ylabel("change from the base\nmodel at 1x (nats/token)")
        data, split = own[0].comparison.data, own[0].comparison.split
        scored = f"{data}, {split} split, fixed targets{f' {targets[:8]}' if several_targets else ''}"
        axis.set_title(f"{scored}: evaluated at {length} tokens", fontsize=9.5, loc="left")
        finish(axis)
    legend(axes[-1], 2)
    return figure


def _style(curve: FinetuneCurve) -> tuple[str, int, str, str]:
    """The fields that determine the colour, marker and dash of a curve in every panel."""
    return curve.name, curve.train_context, curve.extension, curve.recipe


def _name(curve: FinetuneCurve, several: bool) -> str:
    """The name in the legend, with the name of the base model if there are several."""
    extension = "no extension" if curve.extension == "none" else curve.extension
    method = f"{extension}, {curve.recipe}" if curve.recipe else extension
    return shown_name(f"{curve.name}, " * several + f"{method}, fine-tuned at {curve.train_context}")


def _draw_curve(axis: Axes, curve: FinetuneCurve, name: str, number: int) -> None:
    xs, means = [p.x for p in curve.points], [p.mean for p in curve.points]
    colour = COLOURS[number % len(COLOURS)]
    axis.plot(
        xs, means, label=name, color=colour, marker=marker_of(number), linestyle=DASHES[number % len(DASHES)],
        linewidth=1.6,
    )  # fmt: skip
    for point in curve.points:
        if point.interval is not None:
            axis.plot([point.x, point.x], point.interval, color=colour, linewidth=1.1, alpha=0.7)
