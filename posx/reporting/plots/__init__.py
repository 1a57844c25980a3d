"""Cells as pictures, one function a kind. Draws what others computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from posx.errors import PosxError, unknown
from posx.reporting.grouping import Sheet, sheets, test_split, without_controls
from posx.reporting.plots.style import (
    COLOURS,
    DASHES,
    MOST_LINES,
    Look,
    canvas,
    finish,
    label_ends,
    legend,
    mark_contexts,
    marker_of,
    save,
    shown_name,
    ticks,
    title,
)
from posx.results.cells import DELTA, Cell
from posx.results.curves import Line, by_context, by_each_document, by_place
from posx.results.finetune_curves import finetunes
from posx.results.records import perplexity

BY = ("context", "place", "document")  # what --kind position is drawn over


class NothingToDraw(PosxError):
    """These cells hold nothing that this kind of plot shows."""


# ---------------------------------------------------------------- kinds


def plot_length(cells: list[Cell]) -> Figure:
    """Perplexity over length, one panel a set of targets. Bars: what the change from 1x may be, with 95 % certainty."""
    wanted = [cell for cell in cells if cell.ppl is not None and math.isfinite(cell.ppl)]
    found = [sheet for sheet in map(without_controls, sheets(wanted)) if sheet.comparison.protocol != "curve"]
    if not found:
        raise NothingToDraw("There is no number to plot.", "posx table says why each cell has none.")
    found = [_readable(sheet) for sheet in found]
    figure, axes = canvas(len(found), names=[Look(sheet).names() for sheet in found])
    for sheet, axis in zip(found, axes, strict=True):
        _draw_length(sheet, axis)
    return figure


def _readable(sheet: Sheet) -> Sheet:
    """Without fine-tunes where there are too many lines; --kind finetune shows those."""
    kept = [(group, row) for group, row in sheet.rows if not next(iter(row.values())).first.parent_sha256]
    return replace(sheet, rows=kept) if len(sheet.rows) > MOST_LINES and kept else sheet


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
    many = high > 30 * low  # a decade and a half: more figures would stand on each other
    axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if many else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    mark_contexts(axis, sheet.contexts)
    label_ends(axis, ends)
    axis.set_xlabel("evaluation context (tokens)")
    axis.set_ylabel("perplexity")
    title(axis, sheet)
    # The names stand at the lines' ends; the legend shows dashes and markers to those who print in grey.
    legend(axis)
    finish(axis)


def plot_position(cells: list[Cell], by: str = "context") -> Figure:
    """Nats a token over the available context (from --protocol curve), or the change against 1x over the place in the
    document or document by document (from fixed targets, at the longest length)."""
    return _position_by_context(cells) if by == "context" else _position_in_document(cells, by)


def _position_by_context(cells: list[Cell]) -> Figure:
    found = sheets([cell for cell in cells if cell.comparison.protocol == "curve" and cell.ok])
    drawn = [(sheet, [by_context(cell) for cell in sheet.cells]) for sheet in found]
    drawn = [(sheet, lines) for sheet, lines in drawn if any(line.points for line in lines)]
    if not drawn:
        raise NothingToDraw(
            "There is no curve to plot: whole windows were not scored yet, or their NLL is not beside the records.",
            "Score them: posx eval RUN --protocol curve --length 4x.",
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


def _position_in_document(cells: list[Cell], by: str) -> Figure:
    drawn = []
    for sheet in map(without_controls, sheets([c for c in cells if c.comparison.protocol == "fixed-targets" and c.ok])):
        longest = max(sheet.lengths, default=0)
        controls = {(c.group.config_sha256, c.group.dtype): c for c in sheet.cells if c.is_control}
        lines = []
        for group, row in _readable(sheet).rows:
            control = controls.get((group.config_sha256, group.dtype))
            if longest in row and control is not None and not row[longest].is_control:
                line = by_place(row[longest], control) if by == "place" else by_each_document(row[longest], control)
                lines.append(line)
        if any(line.points for line in lines):
            drawn.append((sheet, longest, lines))
    if not drawn:
        raise NothingToDraw(
            "There is no change against 1x to plot: only 1x was evaluated, or the NLL of targets is not there.",
            "Evaluate a longer length: posx eval RUN --length 4x.",
        )
    figure, axes = canvas(len(drawn), names=[_names(sheet, lines) for sheet, _, lines in drawn])
    for (sheet, longest, lines), axis in zip(drawn, axes, strict=True):
        _draw_lines(axis, Look(sheet), lines, joined=by == "place")
        _no_change(axis)
        over = (
            "position in the document (tokens)"
            if by == "place"
            else "documents, from the largest gain to the largest loss"
        )
        axis.set_xlabel(over)
        axis.set_ylabel(f"change at {longest} against 1x (nats/token)")
        title(axis, sheet)
        legend(axis)
        finish(axis)
    return figure


def _names(sheet: Sheet, lines: list[Line]) -> list[str]:
    """Of lines, in the legend."""
    look = Look(sheet)
    return [look.name(line.cell.group) for line in lines]


def _draw_lines(axis: Axes, look: Look, lines: list[Line], joined: bool = True) -> None:
    for line in lines:
        if not line.points:
            continue
        group, xs = line.cell.group, [p.x for p in line.points]
        style = look.style(group) | {"markersize": 4 if joined else 3, "linewidth": 1.4 if joined else 0.8}
        axis.plot(xs, [p.mean for p in line.points], label=look.name(group), **style)
        known = [p for p in line.points if p.interval is not None]
        if known:
            low, high = zip(*(p.interval for p in known if p.interval is not None), strict=True)
            axis.fill_between([p.x for p in known], low, high, color=look.colour(group), alpha=0.12, linewidth=0)


def _no_change(axis: Axes) -> None:
    """Zero, and the δ up to which a model survives."""
    low, high = axis.get_ylim()
    axis.axhline(0, color="0.3", linewidth=1)
    axis.axhline(DELTA, color="0.6", linewidth=0.8, linestyle=(0, (1, 2)))
    axis.set_ylim(min(low, 0.0), max(high, 0.0))  # δ is shown where it is near, and flattens nothing where it is not


def plot_gain(cells: list[Cell]) -> Figure:
    """Share of the attainable gain, a bar for each row and length that has a control."""
    found = []
    for sheet in map(without_controls, sheets(cells)):
        bars = [
            (group, cell)
            for group, row in sheet.rows
            for _, cell in sorted(row.items())
            if cell.share is not None and cell.share.share is not None
        ]
        if bars:
            found.append((sheet, bars))
    if not found:
        raise NothingToDraw(
            "There is no attainable gain to plot: no control trained at a longer length stands beside these runs, or "
            "none of them is shown to gain.",
            "Name a control in a sweep, controls: [4x], or see posx table.",
        )
    figure, axes = canvas(len(found), max(2.6, 0.36 * max(len(bars) for _, bars in found) + 1.6))
    for (sheet, bars), axis in zip(found, axes, strict=True):
        look = Look(sheet)
        least, most = -1.0, 1.5  # beyond, an arrow says that it goes on
        for place, (group, cell) in enumerate(reversed(bars)):
            share = cell.share
            assert share is not None
            assert share.share is not None
            value = min(max(share.share, least), most)
            if share.interval is not None:
                low, high = (min(max(bound, least), most) for bound in share.interval)
                axis.plot([low, high], [place, place], color=look.colour(group), linewidth=2, alpha=0.6)
            marker = "<" if share.share < least else ">" if share.share > most else "o"
            axis.plot(value, place, marker, color=look.colour(group), markersize=7)
            if marker != "o":
                axis.annotate(
                    f"{share.share:.0%}", (value, place), xytext=(8 if marker == "<" else -8, 6),
                    textcoords="offset points", fontsize=8, ha="left" if marker == "<" else "right",
                )  # fmt: skip
        axis.set_yticks(range(len(bars)))
        axis.set_yticklabels([f"{look.name(g)}, {c.length}" for g, c in reversed(bars)], fontsize=8.5)
        axis.set_xlim(least - 0.05, most + 0.05)
        axis.axvline(0, color="0.3", linewidth=1)
        axis.axvline(1, color="0.3", linewidth=1, linestyle=(0, (4, 2)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}"))
        axis.set_ylim(-0.6, len(bars) - 0.4)
        axis.set_xlabel("share of the attainable gain, 95 % intervals")
        title(axis, sheet)
        finish(axis)
    return figure


def plot_finetune(cells: list[Cell]) -> Figure:
    """Change against the first model's 1x over the steps of fine-tuning, a panel a length."""
    curves = finetunes([cell for cell in cells if cell.comparison.protocol == "fixed-targets"])
    if not curves:
        raise NothingToDraw(
            "There is no fine-tuning to plot: no run here starts from another that is here too.",
            "Try posx sweep finetune, or posx train --from RUN --extension pi train.context=4x.",
        )
    panels = sorted({(c.comparison.targets_sha256, c.length) for c in curves})
    several_targets = len({targets for targets, _ in panels}) > 1
    kinds = sorted({(curve.name, curve.train_context, curve.extension, curve.recipe) for curve in curves})
    several = len({name for name, *_ in kinds}) > 1
    figure, axes = canvas(len(panels), 3.8)
    for (targets, length), axis in zip(panels, axes, strict=True):
        own = [c for c in curves if (c.comparison.targets_sha256, c.length) == (targets, length)]
        for curve in own:
            number = kinds.index((curve.name, curve.train_context, curve.extension, curve.recipe))
            what = "no extension" if curve.extension == "none" else curve.extension
            what = f"{what}, {curve.recipe}" if curve.recipe else what
            name = shown_name(f"{curve.name}, " * several + f"{what}, trained on at {curve.train_context}")
            xs, means = [p.x for p in curve.points], [p.mean for p in curve.points]
            axis.plot(
                xs, means, label=name, color=COLOURS[number % len(COLOURS)], marker=marker_of(number),
                linestyle=DASHES[number % len(DASHES)], linewidth=1.6,
            )  # fmt: skip
            known = [p for p in curve.points if p.interval is not None]
            for p in known:
                assert p.interval is not None
                axis.plot([p.x, p.x], p.interval, color=COLOURS[number % len(COLOURS)], linewidth=1.1, alpha=0.7)
        _no_change(axis)
        steps = sorted({p.x for c in curves for p in c.points})
        least = min([s for s in steps if s > 0], default=1.0)
        axis.set_xscale("symlog", linthresh=least, linscale=0.4)
        axis.set_xlim(left=-0.1 * least)
        ticks(axis, steps, lambda x: f"{x:g}")
        axis.set_xlabel("steps of fine-tuning (0: the extension untrained)")
        axis.set_ylabel("change against the first\nmodel at 1x (nats/token)")
        where = own[0].comparison
        told = f"{where.data}, {where.split} split, fixed targets{f' {targets[:8]}' if several_targets else ''}"
        axis.set_title(f"{told}: evaluated at {length} tokens", fontsize=9.5, loc="left")
        finish(axis)
    legend(axes[-1], 2)
    return figure


# ---------------------------------------------------------------- files

KINDS: dict[str, Callable[[list[Cell]], Figure]] = {
    "length": plot_length,
    "position": plot_position,
    "gain": plot_gain,
    "finetune": plot_finetune,
}


def plot(kind: str, cells: list[Cell], stem: Path, by: str | None = None) -> list[Path]:
    """Draw one kind and save it; ``by`` is for positions alone. Raises PosxError."""
    if kind not in KINDS:
        raise unknown("kind of plot", kind, KINDS)
    if by is not None and by not in BY:
        raise unknown("way to draw positions", by, BY)
    if by is not None and kind != "position":
        raise PosxError(f"--by {by} is for --kind position, but {kind} was asked.", "Drop it.")
    tested = test_split(cells)
    return save(plot_position(tested, by or BY[0]) if kind == "position" else KINDS[kind](tested), stem)
