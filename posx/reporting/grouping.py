"""Groups cells into tables: a sheet holds all rows over the same targets, with their names, caption and remarks."""

from __future__ import annotations

from dataclasses import dataclass

from posx.config.schema import TABLED
from posx.results.bootstrap import FEW_DOCUMENTS
from posx.results.cells import DELTA, Cell, Comparison, Group

ALL = "all"  # instead of a protocol's name: all protocols, side by side
ONE_SEED = "One seed: intervals cover document sampling, not training variance."
NO_INTERVALS = "No intervals: the losses of single targets are missing, or all targets are in one document."


@dataclass(frozen=True)
class Sheet:
    """All rows over the same targets."""

    comparison: Comparison
    lengths: list[int]
    rows: list[tuple[Group, dict[int, Cell]]]

    @property
    def any(self) -> Cell:
        return next(iter(self.rows[0][1].values()))

    @property
    def contexts(self) -> list[int]:
        """The distinct base contexts."""
        return sorted({group.base_context for group, _ in self.rows})

    @property
    def cells(self) -> list[Cell]:
        return [cell for _, row in self.rows for cell in row.values()]

    @property
    def seeds(self) -> int:
        """The largest number of seeds of a cell."""
        return max(len(cell.seeds) for cell in self.cells)


def test_split(cells: list[Cell]) -> list[Cell]:
    """The cells of the test split if there are any, else all of them."""
    return [cell for cell in cells if cell.comparison.split == "test"] or cells


def choose(cells: list[Cell], protocol: str | None) -> list[Cell]:
    """The cells of a protocol; by default those of fixed-targets if there are any, else of all protocols in tables.

    Cells of the test split are preferred, see :func:`test_split`.
    """
    cells = test_split(cells)
    tabled = [cell for cell in cells if cell.comparison.protocol in TABLED]
    if protocol in (None, ALL):
        fixed = [cell for cell in tabled if cell.comparison.protocol == TABLED[0]]
        return tabled if protocol == ALL or not fixed else fixed
    return [cell for cell in cells if cell.comparison.protocol == protocol]


def sheets(cells: list[Cell]) -> list[Sheet]:
    """One sheet for each set of targets, in the order of the cells."""
    by_targets: dict[Comparison, dict[Group, dict[int, Cell]]] = {}
    for cell in cells:
        by_targets.setdefault(cell.comparison, {}).setdefault(cell.group, {})[cell.length] = cell
    return [_sheet(comparison, _in_order(list(rows.items()))) for comparison, rows in by_targets.items()]


def _in_order(rows: list[tuple[Group, dict[int, Cell]]]) -> list[tuple[Group, dict[int, Cell]]]:
    """The original order, except that fine-tuned models follow the model they start from, sorted by steps."""
    order: dict[str, int] = {}
    for group, _ in rows:
        order.setdefault(group.config_sha256, len(order))

    def key(item: tuple[Group, dict[int, Cell]]) -> tuple[int, int, int, int]:
        group, row = item
        record = next(iter(row.values())).first
        root = order.get(record.parent_sha256, order[group.config_sha256])
        steps = record.train_steps if record.parent_sha256 else 0
        return root, steps, group.train_context if steps else 0, order[group.config_sha256] if steps else 0

    return sorted(rows, key=key)


def _sheet(comparison: Comparison, rows: list[tuple[Group, dict[int, Cell]]]) -> Sheet:
    return Sheet(comparison, sorted({length for _, row in rows for length in row}), rows)


def without_controls(sheet: Sheet) -> Sheet:
    """The sheet without the models trained at a longer length, which serve only to compute the attainable gain."""
    rows = [(group, row) for group, row in sheet.rows if not next(iter(row.values())).trained_long]
    return _sheet(sheet.comparison, rows)


def row_name(sheet: Sheet, group: Group) -> str:
    """The label, with a hash or base context if several configs share it."""
    same = [g for g, _ in sheet.rows if g.label == group.label]
    name = group.label
    if len({(g.config_sha256, g.base_context, g.train_extension) for g in same}) > len(
        {(g.base_context, g.train_extension) for g in same}
    ):
        name += f" [{group.config_sha256[:6]}]"
    if len(sheet.contexts) > 1:
        name += f" (L = {group.base_context})"
    return name if group.dtype == "float32" else f"{name} ({group.dtype})"


def extension_name(group: Group) -> str:
    """The extensions in effect; those that the model was trained with are marked ``(trained)``."""
    if group.train_extension == "none":
        return group.extension
    return group.extension.replace("trained", f"{group.train_extension} (trained)", 1)


def heading(sheet: Sheet, length: int) -> str:
    """``128 (2x)``; only tokens if the models have different L."""
    if len(sheet.contexts) > 1:
        return f"{length}"
    return f"{length} ({length / sheet.contexts[0]:.4g}x)"


def setup(sheet: Sheet) -> str:
    """The settings that all numbers of a sheet share, separated by commas."""
    record = sheet.any.first
    contexts = sorted({group.train_context for group, _ in sheet.rows} | set(sheet.contexts))
    parts = [
        sheet.comparison.data,
        f"{sheet.comparison.protocol}, {sheet.comparison.split} split",
        f"{record.n_targets:,} targets in {record.n_documents} documents",
        f"trained at L = {' and '.join(map(str, sheet.contexts))}",
        *([f"fine-tuned at {' and '.join(map(str, contexts[1:]))}"] if set(contexts) - set(sheet.contexts) else []),
    ]
    if record.stride is not None:
        parts.append(f"S = {record.stride}")
    parts.append(f"targets {sheet.comparison.targets_sha256[:8]}")
    return ", ".join(parts)


def few_documents(n: int) -> str:
    """The warning below a table whose targets come from only ``n`` documents."""
    return f"Only {n} document{'' if n == 1 else 's'}: too few for reliable intervals."


def remarks(sheet: Sheet) -> list[str]:
    """The notes below a table: how to read its numbers, and how reliable they are."""
    record = sheet.any.first
    lines = []
    if sheet.comparison.protocol == "fixed-targets":
        lines.append(
            f"The same targets at every length. Only documents longer than {record.target_context} tokens are scored."
        )
    else:
        lines.append(
            f"Protocol {sheet.comparison.protocol}: fewer targets have little context as the length grows, so "
            "perplexity can fall even if the model makes no use of the longer context."
        )
    if sheet.seeds > 1:
        lines.append("Means over seeds in nats; ± is the standard deviation over seeds.")
    judged = [cell for cell in sheet.cells if cell.interval is not None and not cell.is_control]
    if judged:
        scope = f", simultaneous over the {len(judged)} changes of this table" if len(judged) > 1 else ""
        lines.append(
            f"Changes are in nats/token relative to the same weights at 1x, with 95% intervals{scope}. Verdicts apply "
            f"to the whole interval: below 0: uses; at most {DELTA:g}: survives; above {DELTA:g}: breaks; otherwise "
            "undecided."
        )
        if sheet.seeds == 1:
            lines.append(ONE_SEED)
        else:
            lines.append("Intervals cover document sampling and training variance.")
            if any(len(cell.seeds) == 1 for cell in judged):
                lines.append("Intervals of cells with only one seed cover document sampling only.")
        if record.n_documents < FEW_DOCUMENTS:
            lines.append(few_documents(record.n_documents))
    elif any(cell.delta is not None and not cell.is_control for cell in sheet.cells):
        lines.append(NO_INTERVALS)
    if any(cell.usable_undecided and cell.usable for cell in sheet.cells):
        lines.append("usable: the largest length up to which nothing breaks; 64–512? if this is certain only up to 64.")
    elif judged:
        lines.append("usable: the largest length up to which nothing breaks.")
    recorded = {note for cell in sheet.cells for r in cell.records for note in r.notes}
    return [*lines, *sorted(recorded)]
