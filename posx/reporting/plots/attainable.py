"""The share of the attainable gain."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from posx.reporting.grouping import Sheet, sheets, without_controls
from posx.reporting.plots.base import NothingToDraw
from posx.reporting.plots.style import Look, canvas, finish, title
from posx.results.cells import Cell, Group

LEAST, MOST = -1.0, 1.5  # the range of the axis; an arrow marks a share outside it


def plot_gain(cells: list[Cell]) -> Figure:
    """A bar for each row and length for which there is a model trained at that length."""
    drawn = []
    for sheet in map(without_controls, sheets(cells)):
        bars = [
            (group, cell)
            for group, row in sheet.rows
            for _, cell in sorted(row.items())
            if cell.share is not None and cell.share.share is not None
        ]
        if bars:
            drawn.append((sheet, bars))
    if not drawn:
        raise NothingToDraw(
            "There is no attainable gain to plot: these runs have no control trained at a longer length, or no control "
            "gains significantly.",
            "Add controls to the sweep, for example controls: [4x]. posx table prints the numbers.",
        )
    figure, axes = canvas(len(drawn), max(2.6, 0.36 * max(len(bars) for _, bars in drawn) + 1.6))
    for (sheet, bars), axis in zip(drawn, axes, strict=True):
        _draw_bars(sheet, bars, axis)
    return figure


def _draw_bars(sheet: Sheet, bars: list[tuple[Group, Cell]], axis: Axes) -> None:
    look = Look(sheet)
    for height, (group, cell) in enumerate(reversed(bars)):
        share = cell.share
        assert share is not None
        assert share.share is not None
        value = min(max(share.share, LEAST), MOST)
        if share.interval is not None:
            low, high = (min(max(bound, LEAST), MOST) for bound in share.interval)
            axis.plot([low, high], [height, height], color=look.colour(group), linewidth=2, alpha=0.6)
        marker = "<" if share.share < LEAST else ">" if share.share > MOST else "o"
        axis.plot(value, height, marker, color=look.colour(group), markersize=7)
        if marker != "o":
            axis.annotate(
                f"{share.share:.0%}", (value, height), xytext=(8 if marker == "<" else -8, 6),
                textcoords="offset points", fontsize=8, ha="left" if marker == "<" else "right",
            )  # fmt: skip
    axis.set_yticks(range(len(bars)))
    axis.set_yticklabels([f"{look.name(g)}, {c.length}" for g, c in reversed(bars)], fontsize=8.5)
    axis.set_xlim(LEAST - 0.05, MOST + 0.05)
    axis.axvline(0, color="0.3", linewidth=1)
    axis.axvline(1, color="0.3", linewidth=1, linestyle=(0, (4, 2)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}"))
    axis.set_ylim(-0.6, len(bars) - 0.4)
    axis.set_xlabel("share of the attainable gain, 95% intervals")
    title(axis, sheet)
    finish(axis)
