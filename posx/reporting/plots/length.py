"""Perplexity over the evaluation length."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from posx.reporting.grouping import Sheet, sheets, without_controls
from posx.reporting.plots.base import NothingToDraw
from posx.reporting.plots.style import Look, canvas, finish, label_ends, legend, mark_contexts, readable, ticks, title
from posx.results.cells import Cell
from posx.results.records import perplexity


def plot_length(cells: list[Cell]) -> Figure:
    """One panel for each set of targets. Bars: 95% intervals of the change from 1x."""
    finite = [cell for cell in cells if cell.ppl is not None and math.isfinite(cell.ppl)]
    drawn = [sheet for sheet in map(without_controls, sheets(finite)) if sheet.comparison.protocol != "curve"]
    if not drawn:
        raise NothingToDraw("There is no number to plot.", "posx table prints the reason for each cell.")
    drawn = [readable(sheet) for sheet in drawn]
    figure, axes = canvas(len(drawn), names=[Look(sheet).names() for sheet in drawn])
    for sheet, axis in zip(drawn, axes, strict=True):
        _draw_length(sheet, axis)
    return figure


def _draw_length(sheet: Sheet, axis: Axes) -> None:
    look, ends = Look(sheet), []
    for group, row in sheet.rows:
        lengths = [length for length in sheet.lengths if length in row]
        means = [row[length].ppl or float("nan") for length in lengths]
        axis.plot(lengths, means, label=look.name(group), **look.style(group))
        for length in lengths:
            cell = row[length]
            if cell.interval is not None and cell.delta is not None and cell.nats_per_token is not None:
                base = cell.nats_per_token - cell.delta
                low, high = (perplexity(base + bound) for bound in cell.interval.family)
                if math.isfinite(high):
                    axis.plot([length, length], [low, high], color=look.colour(group), linewidth=1.1, alpha=0.7)
        ends.append((means[-1], lengths[-1], look.name(group), look.colour(group)))
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    single = sheet.contexts[0] if len(sheet.contexts) == 1 else None
    ticks(axis, list(map(float, sheet.lengths)), lambda x: f"{x:g}\n{x / single:.3g}x" if single else f"{x:g}")
    low, high = axis.get_ylim()
    many = high > 30 * low  # above a decade and a half, more tick labels would overlap
    axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if many else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    mark_contexts(axis, sheet.contexts)
    label_ends(axis, ends)
    axis.set_xlabel("evaluation length (tokens)")
    axis.set_ylabel("perplexity")
    title(axis, sheet)
    # Names are printed at the ends of the lines; the legend adds dashes and markers, for prints in grey.
    legend(axis)
    finish(axis)
