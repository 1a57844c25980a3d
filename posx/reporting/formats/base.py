"""The interface of a table format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from posx.results.cells import Cell


@dataclass(frozen=True)
class Format:
    """One of the formats of ``posx table --format``.

    ``render(cells, side_by_side)`` returns the text of a file; None for a format that is only printed on a terminal.
    ``side_by_side``: one row per protocol for each scheme and extension. ``suffix``: of files in this format.
    """

    name: str
    render: Callable[[list[Cell], bool], str] | None
    suffix: str = ""
