"""Shared by all plots: colours and names of rows, axes, legends, files. Imports matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from posx.errors import PosxError
from posx.reporting.grouping import Sheet, extension_name, row_name
from posx.reporting.plots.digest import digest
from posx.results.cells import DELTA, Group
from posx.utils.files import whole_file

# Okabe and Ito's palette, safe for colour-blind readers; markers and dashes distinguish lines in grey prints.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DESCRIBED = "Drawn by posx. sha256 of the numbers and labels: "  # what a file's description says before the digest
LABEL_PIXELS = 17  # distance between the centres of two labels
DASHES = (
    "-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 3)), (0, (8, 2, 1, 2)), (0, (3, 1)),
    (0, (6, 4)),
)  # fmt: skip
NAMES_A_ROW = 3  # in a legend
LONGEST_NAME = 44  # characters; longer names would push the axes out of the picture
MOST_LINES = 12  # more lines in one panel are hard to read
LONGEST_OF_MANY = 24  # characters of a name if there are more lines


def shown_name(name: str, longest: int = LONGEST_NAME) -> str:
    """A name for matplotlib: shortened, with $ escaped (it starts a formula) and no leading _ (hidden in legends)."""
    if len(name) > longest:
        name = name[: longest - 1] + "…"
    return (" " + name if name.startswith("_") else name).replace("$", r"\$")


def marker_of(number: int) -> str:
    """Shifted by one with each cycle of the colours, so that the first 64 lines all look different."""
    return MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


class Look:
    """Colour, marker and dash of each row, chosen by scheme, so that a scheme looks the same in every plot.

    If there is only one scheme, colours distinguish its extensions.
    """

    def __init__(self, sheet: Sheet):
        self.sheet = sheet
        self.labels = sorted({row_name(sheet, group) for group, _ in sheet.rows})
        self.extensions = ["none", *sorted({extension_name(g) for g, _ in sheet.rows} - {"none"})]
        self.many = len(sheet.rows) > MOST_LINES

    def name(self, group: Group) -> str:
        """The name in the table; shorter if there are many rows."""
        extension = extension_name(group)
        if self.many and len(self.labels) == 1 and extension != "none":
            return shown_name(extension, LONGEST_OF_MANY)
        name = row_name(self.sheet, group) + ("" if extension == "none" else f" + {extension}")
        return shown_name(name)

    def names(self) -> list[str]:
        """The names of all rows."""
        return [self.name(group) for group, _ in self.sheet.rows]

    def colour(self, group: Group) -> str:
        if len(self.labels) == 1:
            return COLOURS[self.extensions.index(extension_name(group)) % len(COLOURS)]
        return COLOURS[self.labels.index(row_name(self.sheet, group)) % len(COLOURS)]

    def style(self, group: Group) -> dict[str, Any]:
        """Keyword arguments of ``Axes.plot``."""
        colour = self.colour(group)
        number = self.labels.index(row_name(self.sheet, group))
        if self.many and len(self.labels) == 1:  # more rows than dashes
            number = self.extensions.index(extension_name(group))
        return {
            "color": colour,
            "marker": marker_of(number),
            "markersize": 6,
            "markerfacecolor": colour if group.extension == "none" else "white",
            "linestyle": DASHES[self.extensions.index(extension_name(group)) % len(DASHES)],
            "linewidth": 1.7,
        }


def canvas(panels: int, height: float = 4.6, names: Sequence[Sequence[str]] = ()) -> tuple[Figure, list[Axes]]:
    """A figure and the axes of its ``panels``, one below the other. ``names``: the legend of each panel."""
    height += 0.2 * max((-(-len(legend_names) // columns_for(legend_names)) for legend_names in names), default=0)
    figure, axes = plt.subplots(panels, 1, figsize=(8.2, height * panels), squeeze=False, layout="constrained")
    return figure, list(axes[:, 0])


def finish(axis: Axes) -> None:
    axis.grid(True, which="major", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def columns_for(names: Sequence[str]) -> int:
    """The number of columns of a legend: fewer for longer names."""
    longest = max(map(len, names), default=0)
    return 1 if longest > 40 else 2 if longest > 24 else NAMES_A_ROW


def legend(axis: Axes, columns: int = NAMES_A_ROW) -> None:
    columns = min(columns, columns_for(axis.get_legend_handles_labels()[1]))
    axis.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=columns, fontsize=8, frameon=False, handlelength=3.2
    )


def title(axis: Axes, sheet: Sheet) -> None:
    record = sheet.any.first
    seeds = f"{sheet.seeds} seeds" if sheet.seeds > 1 else "one seed"
    axis.set_title(
        f"{sheet.comparison.data}: {record.n_targets:,} {sheet.comparison.split} targets "
        f"in {record.n_documents} documents, {sheet.comparison.protocol}, {seeds}",
        fontsize=9.5,
        loc="left",
    )


def ticks(axis: Axes, values: list[float], label: Callable[[float], str]) -> None:
    """Ticks of the horizontal axis at these values only."""
    axis.xaxis.set_major_locator(FixedLocator(values))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: label(x)))


def mark_contexts(axis: Axes, contexts: list[int]) -> None:
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


def label_ends(axis: Axes, ends: list[tuple[float, int, str, str]]) -> None:
    """Names at the right ends of the lines, moved apart if they would overlap."""
    axis.figure.canvas.draw()  # fixes the scales, which transData needs
    to_screen, from_screen = axis.transData.transform, axis.transData.inverted().transform
    ends = sorted(ends)
    heights = [float(to_screen((length, value))[1]) for value, length, _, _ in ends]
    for _ in range(200):  # moves neighbours that are too close apart, each by half of the overlap
        for low in range(len(heights) - 1):
            overlap = heights[low] + LABEL_PIXELS - heights[low + 1]
            if overlap > 0:
                heights[low] -= overlap / 2
                heights[low + 1] += overlap / 2
    for (_, length, name, colour), height in zip(ends, heights, strict=True):
        axis.text(length * 1.06, from_screen((0, height))[1], name, fontsize=9, color=colour, va="center")


def readable(sheet: Sheet) -> Sheet:
    """The sheet without fine-tuned models if there are too many lines; --kind finetune shows those."""
    rows = [(group, row) for group, row in sheet.rows if not next(iter(row.values())).first.parent_sha256]
    return replace(sheet, rows=rows) if len(sheet.rows) > MOST_LINES and rows else sheet


def mark_no_change(axis: Axes) -> None:
    """Lines at zero and at δ, the largest change that counts as "survives"."""
    low, high = axis.get_ylim()
    axis.axhline(0, color="0.3", linewidth=1)
    axis.axhline(DELTA, color="0.6", linewidth=0.8, linestyle=(0, (1, 2)))
    axis.set_ylim(min(low, 0.0), max(high, 0.0))  # may leave out δ, which would flatten curves far from it


def save(figure: Figure, stem: Path, suffixes: Sequence[str] = (".png", ".svg")) -> list[Path]:
    """Write ``stem`` with each suffix. Raises PosxError."""
    written = []
    try:
        for suffix in suffixes:
            path = stem.with_name(stem.name + suffix)
            with whole_file(path) as temporary:
                _write(figure, temporary, suffix[1:])
            written.append(path)
    except OSError as error:
        raise PosxError(f"{stem} cannot be written: {error.strerror or error}.", "Choose another -o.") from None
    finally:
        plt.close(figure)
    return written


def svg_bytes(figure: Figure) -> bytes:
    """The figure as the bytes of an SVG file; closes the figure."""
    buffer = io.BytesIO()
    try:
        _write(figure, buffer, "svg")
    finally:
        plt.close(figure)
    return buffer.getvalue()


def _write(figure: Figure, target: Path | io.BytesIO, form: str) -> None:
    """The same bytes each time on one machine; the digest of what is drawn goes into the file's description."""
    described = f"{DESCRIBED}{digest(figure)}"
    if form != "png":
        with matplotlib.rc_context({"svg.hashsalt": "posx"}):
            figure.savefig(target, format=form, metadata={"Description": described, "Date": None})
        return
    buffer, text = io.BytesIO(), PngInfo()
    figure.savefig(buffer, format="png", dpi=160)
    text.add_text("Description", described)
    # Without the alpha channel, which an opaque picture does not need, the file is an eighth smaller.
    Image.open(buffer).convert("RGB").save(target, "png", optimize=True, pnginfo=text, dpi=(160, 160))
