"""Nats/token over the available context; the change from 1x over the position in the document, or by document."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posx.reporting.grouping import Sheet, sheets, without_controls
from posx.reporting.plots.base import NothingToDraw
from posx.reporting.plots.style import (
    Look,
    canvas,
    finish,
    legend,
    mark_contexts,
    mark_no_change,
    readable,
    ticks,
    title,
)
from posx.results.cells import Cell
from posx.results.curves import Line, by_context, by_each_document, by_place

VIEWS = ("context", "place", "document")  # --by


def plot_position(cells: list[Cell], by: str = VIEWS[0]) -> Figure:
    """``by`` is one of VIEWS: ``context`` requires the curve protocol, the others fixed targets (at the longest ℓ)."""
    return _over_context(cells) if by == "context" else _within_documents(cells, by)


def _over_context(cells: list[Cell]) -> Figure:
    compared = sheets([cell for cell in cells if cell.comparison.protocol == "curve" and cell.ok])
    drawn = [(sheet, [by_context(cell) for cell in sheet.cells]) for sheet in compared]
    drawn = [(sheet, lines) for sheet, lines in drawn if any(line.points for line in lines)]
    if not drawn:
        raise NothingToDraw(
            "There is no curve to plot: the curve protocol was not evaluated, or the losses of targets are missing.",
            "Evaluate it: posx eval RUN --protocol curve --length 4x.",
        )
    figure, axes = canvas(len(drawn), names=[_names(sheet, lines) for sheet, lines in drawn])
    for (sheet, lines), axis in zip(drawn, axes, strict=True):
        _draw_lines(axis, Look(sheet), lines)
        axis.set_xscale("log", base=2)
        octaves = [2.0**k for k in range(max(sheet.lengths).bit_length())]
        ticks(axis, octaves, lambda x: f"{x:g}")
        mark_contexts(axis, sheet.contexts)
        axis.set_xlabel(f"available context (tokens), in windows of {max(sheet.lengths)}")
        axis.set_ylabel("nats/token")
        title(axis, sheet)
        legend(axis)
        finish(axis)
    return figure


def _within_documents(cells: list[Cell], by: str) -> Figure:
    drawn = []
    for sheet in map(without_controls, sheets([c for c in cells if c.comparison.protocol == "fixed-targets" and c.ok])):
        longest = max(sheet.lengths, default=0)
        controls = {(c.group.config_sha256, c.group.dtype): c for c in sheet.cells if c.is_control}
        lines = []
        for group, row in readable(sheet).rows:
            control = controls.get((group.config_sha256, group.dtype))
            if longest in row and control is not None and not row[longest].is_control:
                line = by_place(row[longest], control) if by == "place" else by_each_document(row[longest], control)
                lines.append(line)
        if any(line.points for line in lines):
            drawn.append((sheet, longest, lines))
    if not drawn:
        raise NothingToDraw(
            "There is no change from 1x to plot: only 1x was evaluated, or the losses of single targets are missing.",
            "Evaluate a longer length: posx eval RUN --length 4x.",
        )
    figure, axes = canvas(len(drawn), names=[_names(sheet, lines) for sheet, _, lines in drawn])
    for (sheet, longest, lines), axis in zip(drawn, axes, strict=True):
        _draw_lines(axis, Look(sheet), lines, joined=by == "place")
        mark_no_change(axis)
        axis.set_xlabel("position in the document (tokens)" if by == "place" else "documents, most improved first")
        axis.set_ylabel(f"change at {longest} from 1x (nats/token)")
        title(axis, sheet)
        legend(axis)
        finish(axis)
    return figure


def _names(sheet: Sheet, lines: list[Line]) -> list[str]:
    """The names of lines in the legend."""
    look = Look(sheet)
    return [look.name(line.cell.group) for line in lines]


def _draw_lines(axis: Axes, look: Look, lines: list[Line], joined: bool = True) -> None:
    for line in lines:
        if not line.points:
            continue
        group, xs = line.cell.group, [p.x for p in line.points]
        style = look.style(group) | {"markersize": 4 if joined else 3, "linewidth": 1.4 if joined else 0.8}
        axis.plot(xs, [p.mean for p in line.points], label=look.name(group), **style)
        bounded = [p for p in line.points if p.interval is not None]
        if bounded:
            low, high = zip(*(p.interval for p in bounded if p.interval is not None), strict=True)
            axis.fill_between([p.x for p in bounded], low, high, color=look.colour(group), alpha=0.12, linewidth=0)
