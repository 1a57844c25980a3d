"""Draws the panels of `posx show` as one picture; computes nothing of what they show."""

from __future__ import annotations

import math
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
DPI = 160  # as the file will have: places of letters are rounded to pixels
LINE = 112  # letters across the picture
MOST_ROWS = 480  # of a heat map, a pixel high or more
FLOOR = 1e-6  # of the largest weight: what is less is not drawn
CYCLIC, SIGNED = "twilight", "RdBu_r"
MANY = 20  # times the smallest weight: from there on in decades
NOTHING = "0.9"  # the grey of pairs that do not see each other
SUFFIXES = (".png", ".svg", ".pdf")
LABELS = {
    "vectors": ("dimension", "position"),
    "angles": ("pair k", "position"),
    "turned": ("dimension", "position"),
    "added": ("key", "query"),
    "weight": ("distance d (tokens)", "weight"),
    "similarity": ("distance d (tokens)", "cosine"),
    "decay": ("distance d (tokens)", "logit, over that at d = 0"),
    "bound": ("distance d (tokens)", "bound"),
    "scale": ("position (tokens)", "length"),
    "mask": ("key", "query"),
    "apart": ("key", "query"),
    "wavelength": ("pair k", "tokens a turn"),
    "distance": ("distance d (tokens)", "seems to be"),
    "temperature": ("query (tokens)", "factor"),
}


@dataclass(frozen=True)
class Row:
    """One panel, or two that belong beside each other."""

    panels: list[Panel]
    height: float  # inches


def rows(found: list[Panel]) -> list[Row]:
    """Panels in rows: what follows from an angle stands side by side."""
    out: list[Row] = []
    for panel in found:
        if panel.kind in ("bound", "scale") and len(out[-1].panels) == 1:
            out[-1].panels.append(panel)
        else:
            out.append(Row([panel], 3.0 if isinstance(panel, Map) else 3.1))
    return out


def picture(given: Subject) -> Figure:
    """All panels under each other."""
    found = rows(panels(given))
    head = wrapped(titled(given), 88)
    small = [line for text in (described(given), *remarks(given)) for line in wrapped(text)]
    top = 0.25 + 0.19 * len(head) + 0.15 * len(small)
    heights = [top, *(row.height for row in found)]
    figure = plt.figure(figsize=(WIDTH, sum(heights)), dpi=DPI, layout="constrained")
    title, *bodies = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    title.text(0.012, 1 - 0.1 / top, "\n".join(head), va="top", fontsize=11)
    title.text(0.012, 1 - (0.14 + 0.19 * len(head)) / top, "\n".join(small), va="top", fontsize=8.5, color="0.3")
    for body, row in zip(bodies, found, strict=True):
        columns = body.subfigures(1, len(row.panels), squeeze=False)[0]
        for place, panel in zip(columns, row.panels, strict=True):
            _title(place, panel, LINE // len(row.panels))
            if isinstance(panel, Map):
                _draw_map(place, panel, given)
            else:
                _draw_lines(place, panel, given)
    return figure


def wrapped(text: str, width: int = LINE) -> list[str]:
    """A dollar would begin a formula."""
    return [line.replace("$", r"\$") for line in textwrap.wrap(text, width)]


def _title(place: SubFigure, panel: Panel, width: int) -> None:
    said = "\n".join([*wrapped(panel.title, width - 8), *wrapped(panel.caption, width)])
    place.suptitle(said, x=0.012, ha="left", fontsize=9)


def _draw_map(place: SubFigure, panel: Map, given: Subject) -> None:
    axes = place.subplots(1, len(panel.values), squeeze=False)[0]
    pairs = panel.kind in ("added", "apart", "mask")
    step = panel.places[1] - panel.places[0]
    low, high = panel.places[0] - step / 2, panel.places[-1] + step / 2
    across, down = LABELS[panel.kind]
    colours = _colours(panel)
    narrow = 2 if len(axes) > 2 and given.length > 999 else 4  # ticks: long numbers would stand on each other
    for number, (axis, (label, values)) in enumerate(zip(axes, panel.values.items(), strict=True)):
        least, most = _limits(colours, values)
        columns = (low, high) if pairs else (-0.5, values.shape[1] - 0.5)
        dense = len(values) > MOST_ROWS  # of which the picture has fewer: colours are averaged, and columns kept apart
        shown = np.repeat(values, -(-1000 // values.shape[1]), axis=1) if dense else values
        image = axis.imshow(
            np.ma.masked_invalid(shown), cmap=colours, vmin=least, vmax=most, aspect="auto",
            extent=(*columns, high, low), interpolation="antialiased" if dense else "nearest",
            interpolation_stage="rgba",
        )  # fmt: skip
        axis.set_facecolor(NOTHING)
        if label:
            axis.set_title(label, fontsize=8.5)
        axis.set_xlabel(across)
        axis.set_ylabel("" if number else down if given.counted or pairs else "token")
        axis.xaxis.set_major_locator(_contexts(given, narrow) if pairs else MaxNLocator(8, integer=True))
        axis.yaxis.set_major_locator(_contexts(given))
        axis.tick_params(labelsize=8)
        bar = place.colorbar(image, ax=axis, pad=0.02, aspect=24, fraction=0.08)
        bar.ax.tick_params(labelsize=7.5)
        if panel.kind == "angles":
            bar.set_ticks([0, math.pi, 2 * math.pi], labels=["0", "π", "2π"])
        if panel.kind == "mask":
            bar.set_ticks([0.25, 0.75], labels=["hidden", "seen"])
        _mark_rows(axis, given, "" if number else "L =" if len(axes) > 1 else "trained at")


def _contexts(given: Subject, most: int = 4) -> Locator:
    """Ticks at multiples of L, about so many; at round numbers where nothing is longer than L."""
    step = given.context * max(1, round(given.length / given.context / most))
    if given.length <= given.context:
        return MaxNLocator(most + 1, integer=True)
    return FixedLocator(list(range(0, given.length, step)))


def _colours(panel: Map) -> str | Colormap:
    """Angles come round again; with both signs white is 0, with one all goes from dark to light."""
    if panel.kind == "angles":
        return CYCLIC
    if panel.kind == "mask":
        return ListedColormap(["white", COLOURS[0]])
    seen = np.concatenate([values[np.isfinite(values)] for values in panel.values.values()])
    return SIGNED if seen.min(initial=0) < 0 < seen.max(initial=0) else "viridis"


def _limits(colours: str | Colormap, values: np.ndarray) -> tuple[float, float]:
    if colours == CYCLIC:
        return 0.0, 2 * math.pi
    seen = values[np.isfinite(values)]
    least, most = float(seen.min(initial=0)), float(seen.max(initial=0))
    if colours == SIGNED:
        least, most = -max(-least, most), max(-least, most)
    return least, most if most > least else least + 1


def _mark_rows(axis: Axes, given: Subject, said: str) -> None:
    """The end of the training context, a line across."""
    if given.context >= given.length:
        return
    end = given.context - 0.5
    axis.axhline(end, color="black", linestyle=(0, (1, 2)), linewidth=1.2)
    if said:
        below = end < given.length / 12  # above there is no room
        axis.annotate(
            f"{said} {given.context}", (1, end), xycoords=("axes fraction", "data"), xytext=(-4, -3 if below else 3),
            textcoords="offset points", ha="right", va="top" if below else "bottom", fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
        )  # fmt: skip


def _draw_lines(place: SubFigure, panel: Lines, given: Subject) -> None:
    axis = place.subplots()
    for number, (label, values) in enumerate(panel.values.items()):
        axis.plot(panel.xs, values, label=shown_name(label), color=COLOURS[number % len(COLOURS)],
                  linestyle=DASHES[number % len(DASHES)], linewidth=1.5)  # fmt: skip
    everything = np.stack(list(panel.values.values()))
    for number, (label, marks) in enumerate(panel.marked.items()):
        if marks.any():
            axis.plot(panel.xs[marks], panel.values[label][marks], "o", markersize=7, markerfacecolor="none",
                      color=COLOURS[number % len(COLOURS)], label=f"{shown_name(label)}: {panel.rings}")  # fmt: skip
    if panel.kind == "weight":
        _weight_axes(axis, everything, given.length)
    elif panel.kind == "wavelength":
        _wavelength_axes(axis, given, everything)
    else:
        axis.set_xlim(0, given.length - 1)
        axis.xaxis.set_major_locator(_contexts(given))
        if panel.kind in ("decay", "similarity"):
            axis.axhline(0, color="0.3", linewidth=0.8)
            room = 0.35 if "none" in panel.values else 0.15  # for a legend
            axis.set_ylim(min(-0.1, float(np.nanmin(everything)) - 0.05), max(1.0, float(np.nanmax(everything))) + room)
        if panel.kind == "bound":
            axis.set_ylim(0, 1.15 * float(everything.max()))
        if panel.kind == "distance":
            _across(axis, given.context, "trained to")
            axis.set_ylim(0, 1.08 * float(np.nanmax(everything)))
        if panel.kind == "temperature":
            axis.set_ylim(0, 1.15 * float(everything.max()))
    if given.context < given.length and panel.kind != "wavelength":
        mark_contexts(axis, [given.context])
    across, up = LABELS[panel.kind]
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.tick_params(labelsize=8.5)
    if len(panel.values) > 1 or panel.kind == "temperature":
        axis.legend(fontsize=8, frameon=False, handlelength=3.2, ncols=1 if panel.kind == "decay" else 2)
    finish(axis)


def _wavelength_axes(axis: Axes, given: Subject, values: np.ndarray) -> None:
    """Decades of tokens, with the context that was trained and the length as lines across."""
    axis.set_yscale("log")
    axis.set_xlim(-0.5, values.shape[1] - 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    _across(axis, given.context, "L =")
    if given.length > given.context:
        _across(axis, given.length, "ℓ =")


def _across(axis: Axes, tokens: int, said: str) -> None:
    """A line across at so many tokens."""
    axis.axhline(tokens, color="0.45", linestyle=(0, (1, 2)), linewidth=1.2)
    axis.annotate(f"{said} {tokens}", (1, tokens), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                  textcoords="offset points", ha="right", fontsize=8, color="0.3")  # fmt: skip


def _weight_axes(axis: Axes, values: np.ndarray, length: int) -> None:
    """Octaves of distance, the token itself at 0; decades of weight, where there are some and none is below 0."""
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


def files(output: Path) -> list[Path]:
    """What is written for ``-o``: the file itself, or .png and .svg where no suffix is given. Raises PosxError."""
    if output.is_dir():
        raise PosxError(f"{output} is a folder.", f"Name a file in it: -o {output / 'scheme.png'}.")
    if not output.parent.is_dir():
        raise PosxError(f"There is no folder {output.parent} for {output.name}.", "Make it, or choose another -o.")
    if output.suffix and output.suffix not in SUFFIXES:
        raise PosxError(
            f"{output.name}: pictures are not drawn as {output.suffix}.", f"There are {', '.join(SUFFIXES)}."
        )
    return [output] if output.suffix else [output.with_name(output.name + suffix) for suffix in SUFFIXES[:2]]


def draw(given: Subject, paths: list[Path]) -> list[Path]:
    """Draw and save as all of these. Raises PosxError."""
    figure = picture(given)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once for all files
    return save(figure, paths[0].with_suffix(""), [path.suffix for path in paths])
