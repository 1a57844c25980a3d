"""Tables on a terminal, printed with rich."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from posx.reporting.formats.base import Format
from posx.reporting.table import Page, column_widths, width_of
from posx.reporting.views import pages
from posx.results.cells import Cell

STYLES = {"uses": "green", "survives": "", "breaks": "red", "undecided": "yellow"}
NAME_WIDTH = 16  # columns; longer names may be wrapped

RICH = Format("rich", None)


def show(cells: list[Cell], console: Console, side_by_side: bool = False) -> None:
    """Print all tables of these cells."""
    # With NO_COLOR the console claims not to be a terminal, but it is just as narrow: ask the file.
    for page in pages(cells, side_by_side, console.width if console.file.isatty() else None):
        show_page(page, console)


def show_page(page: Page, console: Console) -> None:
    """Print a table with its caption above and its notes below; if the console is too narrow, a list for each row."""
    title = Text(f"{page.title}\n{page.setup}")
    if _least_width(page) > console.width:
        console.print(title, style="italic")
        for row in page.rows:
            if not any(part.text or part.unsaid for part in row[1:]):  # the name printed above its rows
                console.print(Text(row[0].text), overflow="fold")
                continue
            values = Table.grid(padding=(0, 2))
            values.add_column()
            values.add_column(overflow="fold")
            for head, part in zip(page.heads, row, strict=True):
                text = "\n".join(part.lines if any(part.lines) else (part.unsaid,))
                if text:
                    values.add_row(head, Text(text, style=STYLES.get(part.style, "")))
            console.print(values)
            console.print()
    else:
        fits = width_of(page) <= console.width
        style = box.HEAVY_HEAD if fits else box.SIMPLE_HEAD
        table = Table(box=style, show_edge=fits, title=title, title_justify="left")
        for column, head in enumerate(page.heads):
            right = column >= page.left
            table.add_column(head, justify="right" if right else "left", no_wrap=right, overflow="fold")
        for number, row in enumerate(page.rows):
            if number in page.sections:
                table.add_section()
            table.add_row(*(Text("\n".join(part.lines), style=STYLES.get(part.style, "")) for part in row))
        console.print(table)
    for line in page.notes:
        console.print(line, markup=False, soft_wrap=True)
    console.print()


def _least_width(page: Page) -> int:
    """The columns that a page needs without lines and with wrapped names. Numbers are never wrapped."""
    widths = column_widths(page)
    names = [min(width, NAME_WIDTH) for width in widths[: page.left]]
    return sum(names) + sum(widths[page.left :]) + 3 * len(widths) - 1
