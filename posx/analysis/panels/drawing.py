"""Draws the panels of `posx show` as one picture."""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedLocator, Locator, MaxNLocator

from posx.analysis.panels.panel import Lines, Map, Panel
from posx.analysis.panels.scheme import panels
from posx.analysis.properties import Subject
from posx.analysis.properties_page import described, remarks, titled
from posx.errors import PosxError
from posx.reporting.plots.style import COLOURS, DASHES, finish, mark_contexts, save, shown_name, ticks

WIDTH = 8.2  # inches
DPI = 160  # the same as in the file, because text positions are rounded to pixels
LINE = 112  # characters across the picture
MOST_ROWS = 480  # of a heat map; more rows would be thinner than a pixel
FLOOR = 1e-6  # relative to the largest weight; smaller weights are not drawn
CYCLIC, SIGNED = "twilight", "RdBu_r"
MANY = 20  # times the smallest weight: above it, the axis is logarithmic
NOTHING = "0.9"  # the grey of hidden pairs
SUFFIXES = (".png", ".svg", ".pdf")
LABELS = {
    "vectors": ("dimension", "position"),
    "angles": ("pair k", "position"),
    "turned": ("dimension", "position"),
    "added": ("key", "query"),
    "weight": ("distance d (tokens)", "weight"),
    "similarity": ("distance d (tokens)", "cosine"),
    "decay": ("distance d (tokens)", "logit relative to d = 0"),
    "bound": ("distance d (tokens)", "bound"),
    "scale": ("position (tokens)", "length"),
    "mask": ("key", "query"),
    "apart": ("key", "query"),
    "wavelength": ("pair k", "tokens per rotation"),
    "distance": ("distance d (tokens)", "effective distance"),
    "temperature": ("query (tokens)", "factor"),
}


@dataclass(frozen=True)
class Row:
    """One panel, or two side by side."""

    panels: list[Panel]
    height: float  # inches


def rows(all_panels: list[Panel]) -> list[Row]:
    """The panels in rows: the decay of rotations and its bound or scale share a row."""
    out: list[Row] = []
    for panel in all_panels:
        if panel.kind in ("bound", "scale") and len(out[-1].panels) == 1:
            out[-1].panels.append(panel)
        else:
            out.append(Row([panel], 3.0 if isinstance(panel, Map) else 3.1))
    return out


def picture(subject: Subject) -> Figure:
    """All panels, one row below the other."""
    panel_rows = rows(panels(subject))
    head = wrapped(titled(subject), 88)
    small = [line for text in (described(subject), *remarks(subject)) for line in wrapped(text)]
    top = 0.25 + 0.19 * len(head) + 0.15 * len(small)
    heights = [top, *(row.height for row in panel_rows)]
    figure = plt.figure(figsize=(WIDTH, sum(heights)), dpi=DPI, layout="constrained")
    title, *bodies = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    title.text(0.012, 1 - 0.1 / top, "\n".join(head), va="top", fontsize=11)
    title.text(0.012, 1 - (0.14 + 0.19 * len(head)) / top, "\n".join(small), va="top", fontsize=8.5, color="0.3")
    for body, row in zip(bodies, panel_rows, strict=True):
        columns = body.subfigures(1, len(row.panels), squeeze=False)[0]
        for subfigure, panel in zip(columns, row.panels, strict=True):
            _title(subfigure, panel, LINE // len(row.panels))
            if isinstance(panel, Map):
                _draw_map(subfigure, panel, subject)
            else:
                _draw_lines(subfigure, panel, subject)
    return figure


def wrapped(text: str, width: int = LINE) -> list[str]:
    """The lines of a text, with $ escaped, which would start a formula in matplotlib."""
    return [line.replace("$", r"\$") for line in textwrap.wrap(text, width)]


def _title(subfigure: SubFigure, panel: Panel, width: int) -> None:
    title = "\n".join([*wrapped(panel.title, width - 8), *wrapped(panel.caption, width)])
    subfigure.suptitle(title, x=0.012, ha="left", fontsize=9)


def _draw_map(subfigure: SubFigure, panel: Map, subject: Subject) -> None:
    axes = subfigure.subplots(1, len(panel.values), squeeze=False)[0]
    pairs = panel.kind in ("added", "apart", "mask")
    step = panel.tokens[1] - panel.tokens[0]
    low, high = panel.tokens[0] - step / 2, panel.tokens[-1] + step / 2
    across, down = LABELS[panel.kind]
    colours = _colours(panel)
    n_ticks = 2 if len(axes) > 2 and subject.length > 999 else 4  # more long numbers would overlap
    for number, (axis, (label, values)) in enumerate(zip(axes, panel.values.items(), strict=True)):
        least, most = _limits(colours, values)
        columns = (low, high) if pairs else (-0.5, values.shape[1] - 0.5)
        dense = len(values) > MOST_ROWS  # more rows than pixels: average colours, but do not blend columns
        pixels = np.repeat(values, -(-1000 // values.shape[1]), axis=1) if dense else values
        image = axis.imshow(
            np.ma.masked_invalid(pixels), cmap=colours, vmin=least, vmax=most, aspect="auto",
            extent=(*columns, high, low), interpolation="antialiased" if dense else "nearest",
            interpolation_stage="rgba",
        )  # fmt: skip
        axis.set_facecolor(NOTHING)
        if label:
            axis.set_title(label, fontsize=8.5)
        axis.set_xlabel(across)
        axis.set_ylabel("" if number else down if subject.consecutive or pairs else "token")
        axis.xaxis.set_major_locator(_contexts(subject, n_ticks) if pairs else MaxNLocator(8, integer=True))
        axis.yaxis.set_major_locator(_contexts(subject))
        axis.tick_params(labelsize=8)
        bar = subfigure.colorbar(image, ax=axis, pad=0.02, aspect=24, fraction=0.08)
        bar.ax.tick_params(labelsize=7.5)
        if panel.kind == "angles":
            bar.set_ticks([0, math.pi, 2 * math.pi], labels=["0", "π", "2π"])
        if panel.kind == "mask":
            bar.set_ticks([0.25, 0.75], labels=["hidden", "visible"])
        _mark_rows(axis, subject, "" if number else "L =" if len(axes) > 1 else "trained at")


def _contexts(subject: Subject, most: int = 4) -> Locator:
    """About ``most`` ticks at multiples of L, or at round numbers if the length is at most L."""
    step = subject.context * max(1, round(subject.length / subject.context / most))
    if subject.length <= subject.context:
        return MaxNLocator(most + 1, integer=True)
    return FixedLocator(list(range(0, subject.length, step)))


def _colours(panel: Map) -> str | Colormap:
    """A cyclic colour map for angles, one with white at 0 for values of both signs, otherwise a sequential one."""
    if panel.kind == "angles":
        return CYCLIC
    if panel.kind == "mask":
        return ListedColormap(["white", COLOURS[0]])
    finite = np.concatenate([values[np.isfinite(values)] for values in panel.values.values()])
    return SIGNED if finite.min(initial=0) < 0 < finite.max(initial=0) else "viridis"


def _limits(colours: str | Colormap, values: np.ndarray) -> tuple[float, float]:
    if colours == CYCLIC:
        return 0.0, 2 * math.pi
    finite = values[np.isfinite(values)]
    least, most = float(finite.min(initial=0)), float(finite.max(initial=0))
    if colours == SIGNED:
        least, most = -max(-least, most), max(-least, most)
    return least, most if most > least else least + 1


def _mark_rows(axis: Axes, subject: Subject, label: str) -> None:
    """Draw a horizontal line at the end of the training context."""
    if subject.context >= subject.length:
        return
    end = subject.context - 0.5
    axis.axhline(end, color="black", linestyle=(0, (1, 2)), linewidth=1.2)
    if label:
        below = end < subject.length / 12  # too little room above the line
        axis.annotate(
            f"{label} {subject.context}", (1, end), xycoords=("axes fraction", "data"), xytext=(-4, -3 if below else 3),
            textcoords="offset points", ha="right", va="top" if below else "bottom", fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
        )  # fmt: skip


def _draw_lines(subfigure: SubFigure, panel: Lines, subject: Subject) -> None:
    axis = subfigure.subplots()
    for number, (label, values) in enumerate(panel.values.items()):
        axis.plot(panel.xs, values, label=shown_name(label), color=COLOURS[number % len(COLOURS)],
                  linestyle=DASHES[number % len(DASHES)], linewidth=1.5)  # fmt: skip
    everything = np.stack(list(panel.values.values()))
    for number, (label, marks) in enumerate(panel.marked.items()):
        if marks.any():
            axis.plot(panel.xs[marks], panel.values[label][marks], "o", markersize=7, markerfacecolor="none",
                      color=COLOURS[number % len(COLOURS)], label=f"{shown_name(label)}: {panel.rings}")  # fmt: skip
    if panel.kind == "weight":
        _weight_axes(axis, everything, subject.length)
    elif panel.kind == "wavelength":
        _wavelength_axes(axis, subject, everything)
    else:
        axis.set_xlim(0, subject.length - 1)
        axis.xaxis.set_major_locator(_contexts(subject))
        if panel.kind in ("decay", "similarity"):
            axis.axhline(0, color="0.3", linewidth=0.8)
            room = 0.35 if "none" in panel.values else 0.15  # for the legend
            axis.set_ylim(min(-0.1, float(np.nanmin(everything)) - 0.05), max(1.0, float(np.nanmax(everything))) + room)
        if panel.kind == "bound":
            axis.set_ylim(0, 1.15 * float(everything.max()))
        if panel.kind == "distance":
            _across(axis, subject.context, "trained up to")
            axis.set_ylim(0, 1.08 * float(np.nanmax(everything)))
        if panel.kind == "temperature":
            axis.set_ylim(0, 1.15 * float(everything.max()))
    if subject.context < subject.length and panel.kind != "wavelength":
        mark_contexts(axis, [subject.context])
    across, up = LABELS[panel.kind]
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.tick_params(labelsize=8.5)
    if len(panel.values) > 1 or panel.kind == "temperature":
        axis.legend(fontsize=8, frameon=False, handlelength=3.2, ncols=1 if panel.kind == "decay" else 2)
    finish(axis)


def _wavelength_axes(axis: Axes, subject: Subject, values: np.ndarray) -> None:
    """A logarithmic axis of tokens, with horizontal lines at the training context and the length."""
    axis.set_yscale("log")
    axis.set_xlim(-0.5, values.shape[1] - 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    _across(axis, subject.context, "L =")
    if subject.length > subject.context:
        _across(axis, subject.length, "ℓ =")


def _across(axis: Axes, tokens: int, label: str) -> None:
    """Draw a horizontal line at ``tokens``."""
    axis.axhline(tokens, color="0.45", linestyle=(0, (1, 2)), linewidth=1.2)
    axis.annotate(f"{label} {tokens}", (1, tokens), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                  textcoords="offset points", ha="right", fontsize=8, color="0.3")  # fmt: skip


def _weight_axes(axis: Axes, values: np.ndarray, length: int) -> None:
    """Octaves of distance, with the token itself at 0; weights in decades if they are positive and span enough."""
    axis.set_xscale("symlog", base=2, linthresh=1, linscale=0.5)
    ticks(axis, [0.0, *(2.0**k for k in range((length - 1).bit_length()))], lambda x: f"{x:g}")
    axis.set_xlim(0, length - 1)
    if values.min() < 0:
        axis.axhline(0, color="0.3", linewidth=0.8)
        return
    most, least = float(values.max()), float(values[values > 0].min())
    if most < MANY * least:
        axis.set_ylim(0, 1.2 * most)
        return
    axis.set_yscale("log", nonpositive="mask")
    axis.set_ylim(max(least, FLOOR * most) / 1.6, most * 1.6)


# ---------------------------------------------------------------- files


def file_stem(scheme: str, extension: str) -> str:
    """The name of a file without its suffix: ``rope``, ``rope-yarn``, ``rope-pi-s-4-window``."""
    return "-".join([scheme, *re.findall(r"[\w.]+", extension)]) if extension != "none" else scheme


def files(output: Path) -> list[Path]:
    """The files to write for ``-o``: the file itself, or a .png and an .svg if it has no suffix. Raises PosxError."""
    if output.is_dir():
        raise PosxError(f"{output} is a directory.", f"Name a file in it, for example -o {output / 'scheme.png'}.")
    if not output.parent.is_dir():
        raise PosxError(f"The directory {output.parent} does not exist.", "Create it, or choose another -o.")
    if output.suffix and output.suffix not in SUFFIXES:
        raise PosxError(
            f"{output.name}: {output.suffix} is not a supported format.", f"Supported: {', '.join(SUFFIXES)}."
        )
    return [output] if output.suffix else [output.with_name(output.name + suffix) for suffix in SUFFIXES[:2]]


def draw(subject: Subject, paths: list[Path]) -> list[Path]:
    """Draw the picture and save it to all of these files. Raises PosxError."""
    figure = picture(subject)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the same layout in all files
    return save(figure, paths[0].with_suffix(""), [path.suffix for path in paths])
