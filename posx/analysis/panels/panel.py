"""The data of a panel: numbers with their labels, before they are drawn."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Map:
    """One or more heat maps side by side, for example one for each head: label → [rows, columns], NaN for no value.

    ``kind`` is vectors, angles, turned, added, apart or mask. The rows, and the columns of query–key matrices, are the
    ``tokens``, evenly spaced.
    """

    kind: str
    title: str
    caption: str
    values: dict[str, np.ndarray]
    tokens: list[int]


@dataclass(frozen=True)
class Lines:
    """Lines over ``xs``, label → [X], NaN for no value.

    ``kind`` is weight, similarity, decay, bound, scale, wavelength, distance or temperature. The ``marked`` points of
    a line are drawn as rings; ``rings`` is their meaning, for the legend.
    """

    kind: str
    title: str
    caption: str
    values: dict[str, np.ndarray]
    xs: np.ndarray
    marked: dict[str, np.ndarray] = field(default_factory=dict)
    rings: str = ""


Panel = Map | Lines
