"""Tables independent of their format: the same page is rendered for a terminal, a paper and a web page."""

from __future__ import annotations

from dataclasses import dataclass, field

from posx.results.cells import Cell
from posx.utils.format import DASH


@dataclass(frozen=True)
class Entry:
    """A cell: one or more lines. ``style`` is a verdict, or empty. ``sort`` is the value that a column is sorted by.

    ``unsaid``: for an empty cell, the text of the cell above that it repeats; printed if rows can be sorted or
    are printed separately.
    """

    lines: tuple[str, ...]
    style: str = ""
    sort: float | None = None
    unsaid: str = ""

    @property
    def text(self) -> str:
        return " ".join(line for line in self.lines if line)


@dataclass(frozen=True)
class Page:
    """One table with its caption and notes. The first ``left`` columns are text and aligned to the left."""

    title: str
    setup: str
    heads: list[str]
    rows: list[list[Entry]]
    notes: list[str]
    left: int = 2
    sections: frozenset[int] = field(default_factory=frozenset)  # rows with a line above them


def entry(text: str, sort: float | None = None) -> Entry:
    """An entry of one line."""
    return Entry((text,), sort=sort)


class Footnotes:
    """The reasons for missing numbers, in order of appearance."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, cell: Cell) -> Entry:
        """A dash with the number of its footnote."""
        reason = f"{cell.first.status}: {cell.first.reason}"
        if reason not in self.texts:
            self.texts.append(reason)
        return entry(f"{DASH} [{self.texts.index(reason) + 1}]")

    @property
    def lines(self) -> list[str]:
        return [f"[{number}] {text}" for number, text in enumerate(self.texts, 1)]


def column_widths(page: Page) -> list[int]:
    """The length of the longest line of each column, in characters."""
    columns = [[page.heads[n], *(line for row in page.rows for line in row[n].lines)] for n in range(len(page.heads))]
    return [max(map(len, column)) for column in columns]


def width_of(page: Page) -> int:
    """The terminal columns that a page needs: its text, and two blanks and a line between columns."""
    return sum(column_widths(page)) + 3 * len(page.heads) + 1
