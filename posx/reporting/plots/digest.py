"""The contents of a figure as text and as a hash, independent of the machine, its fonts and its matplotlib version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from posx.utils.files import sha256_of

DIGITS = 6  # significant digits of a number: the last bits of a mean differ between processors
SMALLEST = 1e-9  # values closer to zero count as zero


def contents(figure: Figure) -> list[str]:
    """One line for each drawn element: titles, labels, and the numbers of lines and areas.

    Text positions, axis limits and automatic ticks are left out, because they depend on fonts or on the numbers.
    """
    return [f"panel {number}: {line}" for number, axis in enumerate(figure.axes) for line in _contents(axis)]


def digest(figure: Figure) -> str:
    """sha256 of :func:`contents`."""
    return sha256_of(contents(figure))


def _contents(axis: Axes) -> Iterator[str]:
    yield f"title {axis.get_title(loc='left')}{axis.get_title()}{axis.get_title(loc='right')}"
    yield f"axes {axis.get_xlabel()} | {axis.get_ylabel()} | {axis.get_xscale()} {axis.get_yscale()}"
    for ticks in (axis.xaxis, axis.yaxis):
        if isinstance(ticks.get_major_locator(), FixedLocator):  # others choose by the size of the picture
            yield f"ticks {[label.get_text() for label in ticks.get_ticklabels()]}"
    for line in axis.lines:
        label = str(line.get_label())
        name = "" if label.startswith("_child") else label
        yield f"line {name} {line.get_color()} {_numbers(line.get_xdata())} {_numbers(line.get_ydata())}"
    for area in axis.collections:
        for path in area.get_paths():
            yield f"area {_numbers(path.vertices)}"
    for image in axis.images:
        yield f"image {sha256_of(_numbers(np.ma.filled(np.ma.asarray(image.get_array()), np.nan)))}"
    for text in axis.texts:
        yield f"text {text.get_text()}"
    legend = axis.get_legend()
    for entry in legend.get_texts() if legend is not None else []:
        yield f"legend {entry.get_text()}"


def _numbers(values: Any) -> list[str]:
    flat = np.asarray(values, dtype=np.float64).ravel()
    return [f"{0.0 if abs(value) < SMALLEST else value:.{DIGITS}g}" for value in flat.tolist()]
