"""Tables in GitHub's Markdown."""

from __future__ import annotations

from posx.reporting.formats.base import Format
from posx.reporting.table import Page
from posx.reporting.views import pages
from posx.results.cells import Cell


def _render(cells: list[Cell], side_by_side: bool) -> str:
    return "\n".join(map(markdown, pages(cells, side_by_side)))


def markdown(page: Page) -> str:
    """A GitHub table with <br> between the lines of a cell."""
    align = [" --- |"] * page.left + [" ---: |"] * (len(page.heads) - page.left)
    lines = [
        f"{page.title}: {page.setup}.",
        "",
        "| " + " | ".join(page.heads) + " |",
        "|" + "".join(align),
        *("| " + " | ".join("<br>".join(part.lines).replace("|", "\\|") for part in row) + " |" for row in page.rows),
        "",
        *(f"- {line}" for line in page.notes),
    ]
    return "\n".join(lines) + "\n"


MARKDOWN = Format("md", _render, ".md")
