"""Cells as pictures, one function a kind. Draws what others computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from posx.curves import Line, by_context, by_each_document, by_place, finetunes
from posx.errors import PosxError, unknown
from posx.files import whole_file
from posx.records import perplexity
from posx.sheets import Sheet, extension_name, row_name, sheets, test_split, without_controls
from posx.statistics import DELTA, Cell, Group

# Okabe and Ito's colours, which colour-blind readers tell apart; markers and dashes carry the same in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LABEL_PIXELS = 17  # between the middles of two labels
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
NAMES_A_ROW = 3  # of a legend
LONGEST_NAME = 44  # more would push the axes out of the picture
MOST_LINES = 12  # of a picture that can be read
BY = ("context", "place", "document")  # what --kind position is drawn over


class NothingToDraw(PosxError):
    """These cells hold nothing that this kind of plot shows."""


class Look:
    """Colour, marker and dash of each row, by name, so that a scheme keeps its own from plot to plot.

    Where there is but one scheme, colours tell its extensions apart.
    """

    def __init__(self, sheet: Sheet):
        self.sheet = sheet
        self.labels = sorted({row_name(sheet, group) for group, _ in sheet.rows})
        self.extensions = ["none", *sorted({g.extension for g, _ in sheet.rows} - {"none"})]

    def name(self, group: Group) -> str:
        """As it stands in the table; a dollar would begin a formula."""
        shown = extension_name(group)
        name = row_name(self.sheet, group) + ("" if shown == "none" else f" + {shown}")
        if len(name) > LONGEST_NAME:
            name = name[: LONGEST_NAME - 1] + "…"
        return name.replace("$", r"\$")

    def colour(self, group: Group) -> str:
        single = len(self.labels) == 1
        number = self.extensions.index(group.extension) if single else self.labels.index(row_name(self.sheet, group))
        return COLOURS[number % len(COLOURS)]

    def style(self, group: Group) -> dict[str, Any]:
        """For ``Axes.plot``."""
        colour = self.colour(group)
        return {
            "color": colour,
            "marker": MARKERS[self.labels.index(row_name(self.sheet, group)) % len(MARKERS)],
            "markersize": 6,
            "markerfacecolor": colour if group.extension == "none" else "white",
            "linestyle": DASHES[self.extensions.index(group.extension) % len(DASHES)],
            "linewidth": 1.7,
        }


def _canvas(panels: int, height: float = 4.6, names: int = 0) -> tuple[Figure, list[Axes]]:
    """``names``: how many a panel's legend holds."""
    height += 0.2 * -(-names // NAMES_A_ROW)
    figure, axes = plt.subplots(panels, 1, figsize=(8.2, height * panels), squeeze=False, layout="constrained")
    return figure, list(axes[:, 0])


def _finish(axis: Axes) -> None:
    axis.grid(True, which="major", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _legend(axis: Axes, columns: int = NAMES_A_ROW) -> None:
    axis.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=columns, fontsize=8, frameon=False, handlelength=3.2
    )


def _title(axis: Axes, sheet: Sheet, what: str = "") -> None:
    record = sheet.any.first
    seeds = f"{sheet.seeds} seeds" if sheet.seeds > 1 else "one seed"
    axis.set_title(
        f"{sheet.comparison.data}: {what}{record.n_targets:,} {sheet.comparison.split} targets "
        f"in {record.n_documents} documents, {sheet.comparison.protocol}, {seeds}",
        fontsize=9.5,
        loc="left",
    )


def _steps(axis: Axes, values: list[float], label: Callable[[float], str]) -> None:
    """Ticks at these places of the horizontal axis and nowhere else."""
    axis.xaxis.set_major_locator(FixedLocator(values))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: label(x)))


# ---------------------------------------------------------------- kinds


def plot_length(cells: list[Cell]) -> Figure:
    """Perplexity over length, one panel a set of targets. Bars: what the change from 1x may be, with 95 % certainty."""
    wanted = [cell for cell in cells if cell.ppl is not None and math.isfinite(cell.ppl)]
    found = [sheet for sheet in map(without_controls, sheets(wanted)) if sheet.comparison.protocol != "curve"]
    if not found:
        raise NothingToDraw("There is no number to plot.", "posx table says why each cell has none.")
    found = [_readable(sheet) for sheet in found]
    figure, axes = _canvas(len(found), names=max(len(sheet.rows) for sheet in found))
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
    _steps(axis, list(map(float, sheet.lengths)), lambda x: f"{x:g}\n{x / single:.3g}x" if single else f"{x:g}")
    axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    _mark_contexts(axis, sheet.contexts)
    _label_ends(axis, ends)
    axis.set_xlabel("evaluation context (tokens)")
    axis.set_ylabel("perplexity")
    _title(axis, sheet)
    # The names stand at the lines' ends; the legend shows dashes and markers to those who print in grey.
    _legend(axis)
    _finish(axis)


def _mark_contexts(axis: Axes, contexts: list[int]) -> None:
    for context in contexts:
        axis.axvline(context, color="0.45", linestyle=(0, (1, 2)), linewidth=1.2)
        axis.annotate(
            f"trained at {context}",
            (context, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -4),
            textcoords="offset points",
            va="top",
            fontsize=8.5,
            color="0.3",
            annotation_clip=True,
        )


def plot_position(cells: list[Cell], by: str = "context") -> Figure:
    """Nats a token over the available context (from --protocol curve), or the change against 1x over the place in the
    document or document by document (from fixed targets, at the longest length)."""
    if by not in BY:
        raise unknown("way to draw positions", by, BY)
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
    figure, axes = _canvas(len(drawn), names=max(len(lines) for _, lines in drawn))
    for (sheet, lines), axis in zip(drawn, axes, strict=True):
        _draw_lines(axis, Look(sheet), lines)
        axis.set_xscale("log", base=2)
        ticks = [2.0**k for k in range(max(sheet.lengths).bit_length())]
        _steps(axis, ticks, lambda x: f"{x:g}")
        _mark_contexts(axis, sheet.contexts)
        axis.set_xlabel(f"available context (tokens), in windows of {max(sheet.lengths)}")
        axis.set_ylabel("nats/token")
        _title(axis, sheet)
        _legend(axis)
        _finish(axis)
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
    figure, axes = _canvas(len(drawn), names=max(len(lines) for _, _, lines in drawn))
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
        _title(axis, sheet)
        _legend(axis)
        _finish(axis)
    return figure


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
    figure, axes = _canvas(len(found), max(2.6, 0.36 * max(len(bars) for _, bars in found) + 1.6))
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
        axis.set_xlabel("share of what a training at that length gains (0: nothing; 100 %: all of it), 95 % intervals")
        _title(axis, sheet)
        _finish(axis)
    return figure


def plot_finetune(cells: list[Cell]) -> Figure:
    """Change against the first model's 1x over the steps of fine-tuning, a panel a length."""
    curves = finetunes([cell for cell in cells if cell.comparison.protocol == "fixed-targets"])
    if not curves:
        raise NothingToDraw(
            "There is no fine-tuning to plot: no run here starts from another that is here too.",
            "Try posx sweep finetune, or posx train --from RUN --extension pi train.context=4x.",
        )
    lengths = sorted({curve.length for curve in curves})
    kinds = sorted({(curve.name, curve.train_context, curve.extension) for curve in curves})
    several = len({name for name, _, _ in kinds}) > 1
    figure, axes = _canvas(len(lengths), 3.8)
    for length, axis in zip(lengths, axes, strict=True):
        for curve in (c for c in curves if c.length == length):
            number = kinds.index((curve.name, curve.train_context, curve.extension))
            what = "no extension" if curve.extension == "none" else curve.extension
            name = f"{curve.name}, " * several + f"{what}, trained on at {curve.train_context}"
            xs, means = [p.x for p in curve.points], [p.mean for p in curve.points]
            axis.plot(
                xs, means, label=name, color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)],
                linestyle=DASHES[number % len(DASHES)], linewidth=1.6,
            )  # fmt: skip
            known = [p for p in curve.points if p.interval is not None]
            for p in known:
                assert p.interval is not None
                axis.plot([p.x, p.x], p.interval, color=COLOURS[number % len(COLOURS)], linewidth=1.1, alpha=0.7)
        _no_change(axis)
        steps = sorted({p.x for c in curves for p in c.points})
        least = min([s for s in steps if s > 0], default=1.0)
        axis.set_xscale("symlog", linthresh=least)
        axis.set_xlim(left=-0.1 * least)
        _steps(axis, steps, lambda x: f"{x:g}")
        axis.set_xlabel("steps of fine-tuning (0: the extension untrained)")
        axis.set_ylabel("change against the first\nmodel at 1x (nats/token)")
        axis.set_title(f"evaluated at {length} tokens", fontsize=9.5, loc="left")
        _finish(axis)
    _legend(axes[-1], 2)
    return figure


# ---------------------------------------------------------------- files

KINDS: dict[str, Callable[[list[Cell]], Figure]] = {
    "length": plot_length,
    "position": plot_position,
    "gain": plot_gain,
    "finetune": plot_finetune,
}


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem``.png and .svg. Raises PosxError."""
    written = []
    try:
        for suffix in (".png", ".svg"):
            path = stem.with_name(stem.name + suffix)
            with whole_file(path) as temporary:
                figure.savefig(temporary, format=suffix[1:], dpi=160)
            written.append(path)
    except OSError as error:
        raise PosxError(f"{stem} cannot be written: {error.strerror or error}.", "Choose another -o.") from None
    finally:
        plt.close(figure)
    return written


def plot(kind: str, cells: list[Cell], stem: Path, by: str = "context") -> list[Path]:
    """Draw one kind and save it; ``by`` is for positions. Raises PosxError."""
    if kind not in KINDS:
        raise unknown("kind of plot", kind, KINDS)
    tested = test_split(cells)
    return save(plot_position(tested, by) if kind == "position" else KINDS[kind](tested), stem)


def _label_ends(axis: Axes, ends: list[tuple[float, int, str, str]]) -> None:
    """Names at the lines' right ends, pushed apart where they would overlap."""
    axis.figure.canvas.draw()  # settles the scales, which turn values into places on the page
    to_screen, from_screen = axis.transData.transform, axis.transData.inverted().transform
    ends = sorted(ends)
    heights = [float(to_screen((length, value))[1]) for value, length, _, _ in ends]
    for _ in range(200):  # neighbours that are too close push each other apart by equal steps
        for low in range(len(heights) - 1):
            overlap = heights[low] + LABEL_PIXELS - heights[low + 1]
            if overlap > 0:
                heights[low] -= overlap / 2
                heights[low + 1] += overlap / 2
    for (_, length, name, colour), height in zip(ends, heights, strict=True):
        axis.text(length * 1.06, from_screen((0, height))[1], name, fontsize=9, color=colour, va="center")
