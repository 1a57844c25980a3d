"""LaTeX tables with booktabs."""

from __future__ import annotations

import re

from posx.reporting.formats.base import Format
from posx.reporting.table import Page
from posx.reporting.views import pages
from posx.results.cells import Cell

_LATEX = str.maketrans(
    {
        "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
        "|": r"\textbar{}", "\0": "{}",
        "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "–": "--", "<": r"\textless{}", ">": r"\textgreater{}",
        "×": r"$\times$", "±": r"$\pm$", "∞": r"$\infty$", "−": r"$-$", "δ": r"$\delta$",
        "ℓ": r"$\ell$", "≥": r"$\geq$", "≤": r"$\leq$", "θ": r"$\theta$", "·": r"$\cdot$",
    }
)  # fmt: skip


def _render(cells: list[Cell], side_by_side: bool) -> str:
    return "\n".join(map(latex, pages(cells, side_by_side)))


def latex(page: Page) -> str:
    """A complete booktabs table. The second and later lines of a cell become separate rows, in smaller type."""
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
            "% requires \\usepackage{booktabs} and \\usepackage{graphicx}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{tex(caption)}}}",
            # Scaled down if it is wider than the text.
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


def tex(text: str) -> str:
    """Text with LaTeX's special characters escaped, hyphens kept from becoming dashes, and real minus signs."""
    text = re.sub(r"-(?=-)", "-\0", text)
    text = re.sub(r"(?<![\w.)\0-])-(?=\d)", "−", text).translate(_LATEX)
    # Braces, because \\ reads a following asterisk or bracket as its argument.
    return f"{{{text}}}" if text.lstrip().startswith(("[", "*")) else text


LATEX = Format("latex", _render, ".tex")
