"""What a panel holds: numbers with their labels, before they are drawn."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Map:
    """Heat maps side by side, one a head or just one: label → [rows, columns], NaN where there is nothing.

    ``kind`` is vectors, angles, turned, added, apart or mask. Rows, and the columns of matrices, are the ``places`` in
    the text, evenly spaced.
    """

    kind: str
    title: str
    caption: str
    values: dict[str, np.ndarray]
    places: list[int]


@dataclass(frozen=True)
class Lines:
    """Lines over ``xs``, label → [X], NaN where there is nothing.

    ``kind`` is weight, similarity, decay, bound, scale, wavelength, distance or temperature. ``marked`` points of a
    line are drawn as rings, which ``rings`` explains.
    """

    kind: str
    title: str
    caption: str
    values: dict[str, np.ndarray]
    xs: np.ndarray
    marked: dict[str, np.ndarray] = field(default_factory=dict)
    rings: str = ""


Panel = Map | Lines
