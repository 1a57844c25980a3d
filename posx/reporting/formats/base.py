"""What a format is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from posx.results.cells import Cell


@dataclass(frozen=True)
class Format:
    """A form of the tables, as ``posx table --format`` names it.

    ``render(cells, side_by_side)`` returns the text of a file; None for a format that is only printed on a terminal.
    ``side_by_side``: the protocols below each other, row by row. ``suffix``: of the files that are written in it.
    """

    name: str
    render: Callable[[list[Cell], bool], str] | None
    suffix: str = ""
