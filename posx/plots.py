"""Cells as pictures. Computes nothing."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from posx.errors import PosxError
from posx.files import whole_file
from posx.records import perplexity
from posx.statistics import Cell
from posx.tables import Sheet, row_name, sheets

# Okabe and Ito's colours, which colour-blind readers tell apart; markers and dashes carry the same in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LABEL_PIXELS = 17  # between the middles of two labels
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


def plot_perplexity(cells: list[Cell], stem: Path) -> list[Path]:
    """Perplexity over length, one panel a set of targets; writes ``stem``.png and .svg. Raises PosxError."""
    pages = sheets([cell for cell in cells if cell.ppl is not None and math.isfinite(cell.ppl)])
    if not pages:
        raise PosxError("There is no number to plot.", "posx table says why each cell has none.")
    figure, axes = plt.subplots(len(pages), 1, figsize=(8.2, 4.9 * len(pages)), squeeze=False, layout="constrained")
    written = []
    try:
        for page, axis in zip(pages, axes[:, 0], strict=True):
            _draw(page, axis)
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


def _draw(page: Sheet, axis: Axes) -> None:
    # By name, so that a scheme keeps its colour from plot to plot.
    labels = sorted({row_name(page, group) for group, _ in page.rows})
    extensions = ["none", *sorted({g.extension for g, _ in page.rows} - {"none"})]
    ends = []
    for group, row in page.rows:
        lengths = [length for length in page.lengths if length in row]
        means = [row[length].ppl or float("nan") for length in lengths]
        number = labels.index(row_name(page, group))
        colour = COLOURS[number % len(COLOURS)]
        name = row_name(page, group).replace("$", r"\$")  # a dollar would begin a formula
        if group.extension != "none":
            name += f" + {group.extension}"
        axis.plot(
            lengths,
            means,
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            markersize=6,
            markerfacecolor=colour if group.extension == "none" else "white",
            linestyle=DASHES[extensions.index(group.extension) % len(DASHES)],
            linewidth=1.7,
            label=name,
        )
        if any(row[length].spread is not None for length in lengths):
            per_seed = [[r.nats_per_token for r in row[n].records if r.nats_per_token is not None] for n in lengths]
            axis.fill_between(
                lengths,
                [perplexity(min(v)) for v in per_seed],
                [perplexity(max(v)) for v in per_seed],
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
        ends.append((means[-1], lengths[-1], name, colour))
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(FixedLocator(page.lengths))
    axis.xaxis.set_minor_locator(NullLocator())
    single = page.contexts[0] if len(page.contexts) == 1 else None
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}\n{x / single:.3g}x" if single else f"{x:g}"))
    axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    for context in page.contexts:
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
        )
    _label_ends(axis, ends)
    record = page.any.first
    axis.set_xlabel("evaluation context (tokens)")
    axis.set_ylabel("perplexity")
    axis.set_title(
        f"{page.comparison.data}: {record.n_targets:,} {page.comparison.split} targets "
        f"in {record.n_documents} documents, "
        f"{page.comparison.protocol}" + (f", {page.seeds} seeds" if page.seeds > 1 else ", one seed"),
        fontsize=9.5,
        loc="left",
    )
    # The names stand at the lines' ends; the legend shows dashes and markers to those who print in grey.
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=5, fontsize=8, frameon=False, handlelength=3.2)
    axis.grid(True, which="major", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


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
