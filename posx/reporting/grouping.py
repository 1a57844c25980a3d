"""Which cells share a table: a sheet holds all rows over the same targets, with their names, caption and remarks."""

from __future__ import annotations

from dataclasses import dataclass

from posx.config.schema import TABLED
from posx.results.bootstrap import FEW_DOCUMENTS
from posx.results.cells import DELTA, Cell, Comparison, Group

ALL = "all"  # in place of a protocol: all of them, side by side


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
        """The base contexts in it."""
        return sorted({group.base_context for group, _ in self.rows})

    @property
    def cells(self) -> list[Cell]:
        return [cell for _, row in self.rows for cell in row.values()]

    @property
    def seeds(self) -> int:
        """The most seeds behind a number."""
        return max(len(cell.seeds) for cell in self.cells)


def test_split(cells: list[Cell]) -> list[Cell]:
    """The cells of the test split, if there are any: the validation split is for choosing."""
    return [cell for cell in cells if cell.comparison.split == "test"] or cells


def choose(cells: list[Cell], protocol: str | None) -> list[Cell]:
    """The cells of a protocol. Without one: fixed-targets if there are any, else all protocols that tables show.

    Of the test split, if there is any.
    """
    cells = test_split(cells)
    tabled = [cell for cell in cells if cell.comparison.protocol in TABLED]
    if protocol in (None, ALL):
        fixed = [cell for cell in tabled if cell.comparison.protocol == TABLED[0]]
        return tabled if protocol == ALL or not fixed else fixed
    return [cell for cell in cells if cell.comparison.protocol == protocol]


def sheets(cells: list[Cell]) -> list[Sheet]:
    """A sheet for each set of targets, in the order of the cells. Different targets never share a sheet."""
    found: dict[Comparison, dict[Group, dict[int, Cell]]] = {}
    for cell in cells:
        found.setdefault(cell.comparison, {}).setdefault(cell.group, {})[cell.length] = cell
    return [_sheet(comparison, _in_order(list(rows.items()))) for comparison, rows in found.items()]


def _in_order(rows: list[tuple[Group, dict[int, Cell]]]) -> list[tuple[Group, dict[int, Cell]]]:
    """In the given order, but fine-tunes follow the model that they start from, by steps."""
    places: dict[str, int] = {}
    for group, _ in rows:
        places.setdefault(group.config_sha256, len(places))

    def key(item: tuple[Group, dict[int, Cell]]) -> tuple[int, int, int, int]:
        group, row = item
        record = next(iter(row.values())).first
        root = places.get(record.parent_sha256, places[group.config_sha256])
        tuned = record.train_steps if record.parent_sha256 else 0
        return root, tuned, group.train_context if tuned else 0, places[group.config_sha256] if tuned else 0

    return sorted(rows, key=key)


def _sheet(comparison: Comparison, rows: list[tuple[Group, dict[int, Cell]]]) -> Sheet:
    return Sheet(comparison, sorted({length for _, row in rows for length in row}), rows)


def without_controls(sheet: Sheet) -> Sheet:
    """The sheet without the controls of the attainable gain: models trained long, and evaluated up to their L only."""
    kept = [(group, row) for group, row in sheet.rows if not next(iter(row.values())).trained_long]
    return _sheet(sheet.comparison, kept)


def row_name(sheet: Sheet, group: Group) -> str:
    """The label; where two different configs share it, with what distinguishes them."""
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
    """The extensions that act; those that the model was trained with are marked."""
    if group.train_extension == "none":
        return group.extension
    return group.extension.replace("trained", f"{group.train_extension} (trained)", 1)


def heading(sheet: Sheet, length: int) -> str:
    """``128 (2x)``; tokens alone where models have unlike L."""
    if len(sheet.contexts) > 1:
        return f"{length}"
    return f"{length} ({length / sheet.contexts[0]:.4g}x)"


def setup(sheet: Sheet) -> str:
    """What all numbers of a sheet share, as part of a sentence."""
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


def remarks(sheet: Sheet) -> list[str]:
    """What a reader must know to judge the numbers."""
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
    if sheet.seeds > 1:
        lines.append("Means over seeds in nats; ± is their standard deviation.")
    judged = [cell for cell in sheet.cells if cell.interval is not None and not cell.is_control]
    if judged:
        what = (
            f"simultaneous over the {len(judged)} changes of this table" if len(judged) > 1 else "for this one change"
        )
        lines.append(
            f"Changes are in nats a token against the same weights at 1x, with 95 % intervals, {what}. "
            f"uses: below 0; survives: at most {DELTA:g}; breaks: above {DELTA:g}; else undecided."
        )
        if sheet.seeds == 1:
            lines.append("One seed: the intervals speak of other documents only, not of another training.")
        else:
            lines.append("The intervals speak of other documents and other seeds.")
            if any(len(cell.seeds) == 1 for cell in judged):
                lines.append("Where only one seed has a number, its interval speaks of documents only.")
        if record.n_documents < FEW_DOCUMENTS:
            lines.append(f"Few documents: {record.n_documents} are too few for intervals to be relied on.")
    elif any(cell.delta is not None and not cell.is_control for cell in sheet.cells):
        lines.append("No intervals: the NLL of single targets is not beside the records, or all are of one document.")
    if any(cell.usable_undecided and cell.usable for cell in sheet.cells):
        lines.append(
            "usable: the largest length up to which nothing breaks; 64–512? where all past 64 up to there is undecided."
        )
    elif judged:
        lines.append("usable: the largest length up to which nothing breaks.")
    texts = {note for cell in sheet.cells for r in cell.records for note in r.notes}
    return [*lines, *sorted(texts)]
