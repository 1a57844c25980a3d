"""Cells as tables: on a terminal, in Markdown, LaTeX, CSV and JSON. Computes nothing."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from posx.statistics import Cell, Comparison, Group

FORMATS = ("rich", "md", "csv", "latex", "json")
DASH = "–"
# A change of less than this many nats a token is not worth a colour.
VISIBLE = 0.01


@dataclass(frozen=True)
class Sheet:
    """One table: all rows over the same targets."""

    comparison: Comparison
    lengths: list[int]
    rows: list[tuple[Group, dict[int, Cell]]]

    @property
    def any(self) -> Cell:
        return next(iter(self.rows[0][1].values()))

    @property
    def contexts(self) -> list[int]:
        """The base contexts in it."""
        return sorted({group.base_context for group, _ in self.rows})

    @property
    def seeds(self) -> int:
        """The most seeds behind a number."""
        return max(len(cell.seeds) for _, cells in self.rows for cell in cells.values())


def sheets(cells: list[Cell]) -> list[Sheet]:
    """A sheet for each set of targets, in the order of the cells; unlike targets never share one."""
    found: dict[Comparison, dict[Group, dict[int, Cell]]] = {}
    for cell in cells:
        found.setdefault(cell.comparison, {}).setdefault(cell.group, {})[cell.length] = cell
    return [
        Sheet(comparison, sorted({length for row in rows.values() for length in row}), list(rows.items()))
        for comparison, rows in found.items()
    ]


def render(cells: list[Cell], form: str) -> str:
    """``cells`` as text: md, csv, latex or json."""
    if form == "json":
        return json.dumps([_finite(cell.as_dict()) for cell in cells], indent=1, ensure_ascii=False) + "\n"
    if form == "csv":
        return _csv(cells)
    one = _markdown if form == "md" else _latex
    return "\n".join(one(sheet) for sheet in sheets(cells))


def show(cells: list[Cell], console: Console) -> None:
    """Tables on a terminal."""
    for sheet in sheets(cells):
        notes: list[str] = []
        table = Table(
            title=f"Perplexity by evaluation context (change against 1x)\n{_setup(sheet)}",
            title_justify="left",
        )
        table.add_column("scheme")
        table.add_column("extension")
        table.add_column("params", justify="right")
        if sheet.seeds > 1:
            table.add_column("seeds", justify="right")
        for length in sheet.lengths:
            table.add_column(_heading(sheet, length), justify="right", no_wrap=True)
        before = None
        for group, row in sheet.rows:
            name = row_name(sheet, group)
            if before is not None and name != before:
                table.add_section()
            some = next(iter(row.values()))
            parts: list[Text | str] = [
                "" if name == before else name,
                group.extension,
                _count(some.first.parameters),
            ]
            before = name
            if sheet.seeds > 1:
                parts.append(str(len(some.seeds)))
            for length in sheet.lengths:
                text = _number(row.get(length), notes)
                delta = row[length].delta if length in row else None
                style = "" if delta is None or abs(delta) < VISIBLE else "red" if delta > 0 else "green"
                parts.append(Text(text, style=style))
            table.add_row(*parts)
        console.print(table)
        for line in [*notes, *_remarks(sheet)]:
            console.print(line, markup=False, soft_wrap=True)
        console.print()


def _setup(sheet: Sheet) -> str:
    record = sheet.any.first
    parts = [
        sheet.comparison.data,
        f"{sheet.comparison.protocol}, {sheet.comparison.split} split",
        f"{record.n_targets:,} targets in {record.n_documents} documents",
        f"trained at L = {' and '.join(map(str, sheet.contexts))}",
    ]
    if record.stride is not None:
        parts.append(f"S = {record.stride}")
    parts.append(f"targets {sheet.comparison.targets_sha256[:8]}")
    return ", ".join(parts)


def _remarks(sheet: Sheet) -> list[str]:
    record = sheet.any.first
    lines = []
    if sheet.comparison.protocol == "fixed-targets":
        lines.append(
            f"The same targets at every length. Only documents with more than {record.target_context} tokens speak."
        )
    else:
        lines.append(
            f"Protocol {sheet.comparison.protocol}: the share of targets with little context falls as the length "
            "grows, so perplexity can fall without use of the longer context."
        )
    if sheet.seeds == 1:
        lines.append("One seed: the spread between trainings is not known.")
    else:
        lines.append("± is the standard deviation over seeds.")
    texts = {note for _, row in sheet.rows for cell in row.values() for r in cell.records for note in r.notes}
    return [*lines, *sorted(texts)]


def _heading(sheet: Sheet, length: int) -> str:
    if len(sheet.contexts) > 1:
        return f"{length}"
    return f"{length} ({length / sheet.contexts[0]:.4g}x)"


def row_name(sheet: Sheet, group: Group) -> str:
    """The label; where two unlike configs share it, with what tells them apart."""
    alike = {g.config_sha256 for g, _ in sheet.rows if g.label == group.label}
    name = group.label if len(alike) == 1 else f"{group.label} [{group.config_sha256[:6]}]"
    if len(sheet.contexts) > 1:
        name += f" (L = {group.base_context})"
    return name if group.dtype == "float32" else f"{name} ({group.dtype})"


def _number(cell: Cell | None, notes: list[str]) -> str:
    """``58.29 ±0.31 +27.4%``, or a dash with the number of its footnote."""
    if cell is None:
        return ""
    if cell.ppl is None:
        reason = f"{cell.first.status}: {cell.first.reason}"
        if not any(note.endswith(reason) for note in notes):
            notes.append(f"[{len(notes) + 1}] {reason}")
        number = next(i for i, note in enumerate(notes, 1) if note.endswith(reason))
        return f"{DASH} [{number}]"
    text = figure(cell.ppl)
    if cell.spread is not None:
        # A spread in nats is, to first order, this one in perplexity.
        text += f" ±{figure(cell.ppl * cell.spread, 2)}"
    if cell.delta is None or (cell.group.extension == "none" and cell.length == cell.group.base_context):
        return text
    return f"{text} {change(cell.delta)}"


def figure(value: float, digits: int = 4) -> str:
    """Four significant digits; no exponent below a million."""
    if math.isinf(value):
        return "∞"
    if value >= 1e6:
        return f"{value:.2e}"
    places = max(0, digits - 1 - math.floor(math.log10(value))) if value > 0 else 2
    return f"{value:,.{min(places, 3)}f}"


def change(delta: float) -> str:
    """Change of perplexity in per cent, from a difference in nats."""
    if delta > 3:
        return f"×{figure(math.exp(min(delta, 700)), 3)}"
    return f"{100 * math.expm1(delta):+.1f}%"


def _count(parameters: int) -> str:
    if parameters >= 1e6:
        return f"{parameters / 1e6:.2f}M"
    return f"{parameters / 1e3:.1f}k"


def _text_rows(sheet: Sheet, notes: list[str]) -> list[list[str]]:
    rows = []
    for group, row in sheet.rows:
        some = next(iter(row.values()))
        rows.append(
            [
                row_name(sheet, group),
                group.extension,
                f"{some.first.parameters:,}",
                str(len(some.seeds) or len(some.records)),
                *(_number(row.get(length), notes) for length in sheet.lengths),
            ]
        )
    return rows


def _markdown(sheet: Sheet) -> str:
    notes: list[str] = []
    heads = [
        "scheme",
        "extension",
        "parameters",
        "seeds",
        *(_heading(sheet, length) for length in sheet.lengths),
    ]
    rows = _text_rows(sheet, notes)
    lines = [
        f"Perplexity by evaluation context, with the change against 1x: {_setup(sheet)}.",
        "",
        "| " + " | ".join(heads) + " |",
        "| --- | --- |" + " ---: |" * (len(heads) - 2),
        *("| " + " | ".join(part.replace("|", "\\|") for part in row) + " |" for row in rows),
        "",
        *(f"- {line}" for line in [*notes, *_remarks(sheet)]),
    ]
    return "\n".join(lines) + "\n"


_LATEX = str.maketrans(
    {
        "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "–": "--",
        "×": r"$\times$", "±": r"$\pm$", "∞": r"$\infty$",
        "ℓ": r"$\ell$",
    }
)  # fmt: skip


def _latex(sheet: Sheet) -> str:
    notes: list[str] = []
    heads = [
        "Scheme",
        "Extension",
        "Parameters",
        "Seeds",
        *(_heading(sheet, length) for length in sheet.lengths),
    ]
    rows = [" & ".join(part.translate(_LATEX) for part in row) + r" \\" for row in _text_rows(sheet, notes)]
    caption = f"Perplexity by evaluation context in tokens, with the change against 1x: {_setup(sheet)}. " + " ".join(
        [*notes, *_remarks(sheet)]
    )
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption.translate(_LATEX)}}}",
            rf"\begin{{tabular}}{{ll{'r' * (len(heads) - 2)}}}",
            r"\toprule",
            " & ".join(head.translate(_LATEX) for head in heads) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _csv(cells: list[Cell]) -> str:
    """Long form: a row a cell, every field of its record."""
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
