"""Cells as tables: on a terminal, in Markdown, LaTeX, CSV and JSON. Computes nothing."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from posx.config.schema import TABLED
from posx.reporting.grouping import sheets, test_split
from posx.reporting.views import Page, curve, gain, grid, long_form, protocols
from posx.results.cells import Cell

FORMATS = ("rich", "md", "csv", "latex", "json")
STYLES = {"uses": "green", "survives": "", "breaks": "red", "undecided": "yellow"}
NAME_WIDTH = 16  # columns to which a name may be broken
ALL = "all"  # the protocols side by side


def choose(cells: list[Cell], protocol: str | None) -> list[Cell]:
    """The cells of a protocol; without one, fixed-targets where there are any, else all that have one number a cell.

    Of the test split, where there is any.
    """
    cells = test_split(cells)
    tabled = [cell for cell in cells if cell.comparison.protocol in TABLED]
    if protocol in (None, ALL):
        fixed = [cell for cell in tabled if cell.comparison.protocol == TABLED[0]]
        return tabled if protocol == ALL or not fixed else fixed
    return [cell for cell in cells if cell.comparison.protocol == protocol]


def pages(cells: list[Cell], side_by_side: bool = False, width: int | None = None) -> list[Page]:
    """All tables of these cells. ``width``: in columns of a terminal; where a grid is wider, a row for each number."""
    if side_by_side:
        page = protocols(cells)
        return [page] if page else []
    found = []
    for sheet in sheets(cells):
        if sheet.comparison.protocol == "curve":
            found.append(curve(sheet))
            continue
        page = grid(sheet)
        found.append(page if width is None or width_of(page) <= width else long_form(sheet))
        shares = gain(sheet)
        if shares is not None:
            found.append(shares)
    return found


def _widths(page: Page) -> list[int]:
    """The longest line of each column."""
    columns = [[page.heads[n], *(line for row in page.rows for line in row[n].lines)] for n in range(len(page.heads))]
    return [max(map(len, column)) for column in columns]


def width_of(page: Page) -> int:
    """Columns that a page wants on a terminal: text, two blanks and a line between columns."""
    return sum(_widths(page)) + 3 * len(page.heads) + 1


def _least_width(page: Page) -> int:
    """The same without lines, and with names that break: numbers never do."""
    widths = _widths(page)
    names = [min(width, NAME_WIDTH) for width in widths[: page.left]]
    return sum(names) + sum(widths[page.left :]) + 3 * len(widths) - 1


def render(cells: list[Cell], form: str, side_by_side: bool = False) -> str:
    """``cells`` as text: md, csv, latex or json."""
    if form == "json":
        return json.dumps([_finite(cell.as_dict()) for cell in cells], indent=1, ensure_ascii=False) + "\n"
    if form == "csv":
        return _csv(cells)
    one = markdown if form == "md" else latex
    return "\n".join(one(page) for page in pages(cells, side_by_side))


def show(cells: list[Cell], console: Console, side_by_side: bool = False) -> None:
    """Tables on a terminal."""
    # Asked of the file: with NO_COLOR a console says that it is none, and is as narrow all the same.
    for page in pages(cells, side_by_side, console.width if console.file.isatty() else None):
        show_page(page, console)


def show_page(page: Page, console: Console) -> None:
    """One table, its caption above and its remarks below. Where it is too narrow for it, a list of values a row."""
    title = Text(f"{page.title}\n{page.setup}")
    if _least_width(page) > console.width:
        console.print(title, style="italic")
        for row in page.rows:
            if not any(part.text or part.unsaid for part in row[1:]):  # a name that stands above its rows
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
        roomy = width_of(page) <= console.width
        style = box.HEAVY_HEAD if roomy else box.SIMPLE_HEAD
        table = Table(box=style, show_edge=roomy, title=title, title_justify="left")
        for place, head in enumerate(page.heads):
            right = place >= page.left
            table.add_column(head, justify="right" if right else "left", no_wrap=right, overflow="fold")
        for number, row in enumerate(page.rows):
            if number in page.sections:
                table.add_section()
            table.add_row(*(Text("\n".join(part.lines), style=STYLES.get(part.style, "")) for part in row))
        console.print(table)
    for line in page.notes:
        console.print(line, markup=False, soft_wrap=True)
    console.print()


def markdown(page: Page) -> str:
    """A GitHub table; lines of a cell are kept apart by <br>."""
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


_LATEX = str.maketrans(
    {
        "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
        "|": r"\textbar{}", "\0": "{}",
        "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "–": "--", "<": r"\textless{}", ">": r"\textgreater{}",
        "×": r"$\times$", "±": r"$\pm$", "∞": r"$\infty$", "−": r"$-$", "δ": r"$\delta$",
        "ℓ": r"$\ell$", "≥": r"$\geq$", "≤": r"$\leq$", "θ": r"$\theta$", "·": r"$\cdot$",
    }
)  # fmt: skip


def tex(text: str) -> str:
    """Text as LaTeX prints it: no ligature of hyphens, a minus before numbers."""
    text = re.sub(r"-(?=-)", "-\0", text)
    text = re.sub(r"(?<![\w.)\0-])-(?=\d)", "−", text).translate(_LATEX)
    # After \\ an asterisk or a bracket would be read as its argument.
    return f"{{{text}}}" if text.lstrip().startswith(("[", "*")) else text


def latex(page: Page) -> str:
    """A booktabs table that stands in a paper as it is; a cell's further lines are rows of their own, set smaller."""
    rows = []
    for number, row in enumerate(page.rows):
        if number in page.sections:
            rows.append(r"\addlinespace")
        height = max(len(part.lines) for part in row)
        for line in range(height):
            texts = [tex(part.lines[line]) if line < len(part.lines) else "" for part in row]
            small = [rf"{{\footnotesize {text}}}" if line and text else text for text in texts]
            rows.append(" & ".join(small) + (r" \\" if line == height - 1 else r" \\*"))
    notes = " ".join(note if note.endswith((".", "!", "?")) else f"{note}." for note in page.notes)
    caption = f"{page.title}: {page.setup}. {notes}"
    return "\n".join(
        [
            "% needs \\usepackage{booktabs} and \\usepackage{graphicx}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{tex(caption)}}}",
            # Made smaller where it is wider than the text, never larger.
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{'l' * page.left}{'r' * (len(page.heads) - page.left)}}}",
            r"\toprule",
            " & ".join(tex(head) for head in page.heads) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _csv(cells: list[Cell]) -> str:
    """Long form: a row a cell, every field of its record; lists and mappings as JSON."""
    rows = [cell.as_dict() for cell in cells]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()})
    return out.getvalue()


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
