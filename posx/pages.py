"""Tables before they have a form: what stands in each cell, for a terminal, a paper and a web page alike."""

from __future__ import annotations

from dataclasses import dataclass, field

from posx.bootstrap import FEW_DOCUMENTS
from posx.compare import Difference
from posx.config import PROTOCOLS
from posx.figures import DASH, bounds, change, count, figure, nats, percent, signed
from posx.records import Record
from posx.statistics import DELTA, Cell, Comparison, Group


@dataclass(frozen=True)
class Entry:
    """A cell: one or more lines. ``style`` is a verdict, or empty; ``sort`` orders a column where scripts run."""

    lines: tuple[str, ...]
    style: str = ""
    sort: float | None = None

    @property
    def text(self) -> str:
        return " ".join(line for line in self.lines if line)


@dataclass(frozen=True)
class Page:
    """One table with its caption and its remarks. ``left``: how many columns hold text."""

    title: str
    setup: str
    heads: list[str]
    rows: list[list[Entry]]
    notes: list[str]
    left: int = 2
    sections: frozenset[int] = field(default_factory=frozenset)  # rows before which a line is drawn


def entry(text: str, sort: float | None = None) -> Entry:
    """One line."""
    return Entry((text,), sort=sort)


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


def sheets(cells: list[Cell]) -> list[Sheet]:
    """A sheet for each set of targets, in the order of the cells; unlike targets never share one."""
    found: dict[Comparison, dict[Group, dict[int, Cell]]] = {}
    for cell in cells:
        found.setdefault(cell.comparison, {}).setdefault(cell.group, {})[cell.length] = cell
    return [_sheet(comparison, _in_order(list(rows.items()))) for comparison, rows in found.items()]


def _in_order(rows: list[tuple[Group, dict[int, Cell]]]) -> list[tuple[Group, dict[int, Cell]]]:
    """As they come, but fine-tunes right after the model that they start from, by steps."""
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
    """The sheet without models trained long only to show what there is to gain: those never leave their L."""
    shares = {
        (c.first.recipe_sha256, c.length)
        for c in sheet.cells
        if c.share is not None and c.length > c.group.base_context
    }

    def is_control(group: Group, row: dict[int, Cell]) -> bool:
        recipe = next(iter(row.values())).first.recipe_sha256
        return max(row) <= group.base_context and (recipe, group.base_context) in shares

    return _sheet(sheet.comparison, [(group, row) for group, row in sheet.rows if not is_control(group, row)])


def row_name(sheet: Sheet, group: Group) -> str:
    """The label; where two unlike configs share it, with what tells them apart."""
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
    """What a reader must know to believe the numbers, and no further."""
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
        what = f"simultaneous over the {len(judged)} changes of this table"
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
            "usable: the largest length up to which nothing breaks; with a ? where a verdict there is undecided."
        )
    elif judged:
        lines.append("usable: the largest length up to which nothing breaks.")
    texts = {note for cell in sheet.cells for r in cell.records for note in r.notes}
    return [*lines, *sorted(texts)]


def usable(cell: Cell) -> Entry:
    """``512``, ``512?`` or a dash."""
    if cell.usable is None or (cell.interval is None and not cell.is_control and cell.ok):
        return entry(DASH)
    return entry(f"{cell.usable}{'?' if cell.usable_undecided else ''}", cell.usable)


class Footnotes:
    """Reasons for dashes, numbered as they come."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, cell: Cell) -> Entry:
        """A dash with the number of its reason."""
        reason = f"{cell.first.status}: {cell.first.reason}"
        if reason not in self.texts:
            self.texts.append(reason)
        return entry(f"{DASH} [{self.texts.index(reason) + 1}]")

    @property
    def lines(self) -> list[str]:
        return [f"[{number}] {text}" for number, text in enumerate(self.texts, 1)]


def _value(cell: Cell) -> str:
    """Perplexity, and nats a token with their spread."""
    assert cell.ppl is not None
    spread = "" if cell.spread is None else f" ±{cell.spread:.3f}"
    return f"{figure(cell.ppl)}  {nats(cell.nats_per_token)}{spread}"


def number(cell: Cell | None, notes: Footnotes) -> Entry:
    """Perplexity and nats; the change with its interval; the verdict. A dash with its footnote."""
    if cell is None:
        return entry("")
    if cell.ppl is None:
        return notes.mark(cell)
    lines = [_value(cell)]
    if cell.delta is not None and not cell.is_control:
        lines.append(f"{signed(cell.delta)} {bounds(cell.interval.family if cell.interval else None)}".strip())
        if cell.verdict:
            lines.append(cell.verdict)
    return Entry(tuple(lines), cell.verdict, cell.nats_per_token)


def grid(sheet: Sheet) -> Page:
    """A row for each scheme and extension, a column for each length."""
    sheet = without_controls(sheet)
    notes = Footnotes()
    rows, sections, before = [], set(), None
    for group, row in sheet.rows:
        name, some = row_name(sheet, group), next(iter(row.values()))
        if before not in (None, name):
            sections.add(len(rows))
        before = name
        rows.append(
            [
                entry(name),
                entry(extension_name(group)),
                entry(count(some.first.parameters), some.first.parameters),
                entry(str(len(some.seeds) or len(some.records))),
                *(number(row.get(length), notes) for length in sheet.lengths),
                usable(some),
            ]
        )
    heads = ["scheme", "extension", "params", "seeds", *(heading(sheet, n) for n in sheet.lengths), "usable"]
    title = "Perplexity and nats/token by evaluation context in tokens, with the change against 1x"
    return Page(title, setup(sheet), heads, rows, [*notes.lines, *remarks(sheet)], 2, frozenset(sections))


def long_form(sheet: Sheet) -> Page:
    """The same, a row for each number: for a narrow terminal."""
    sheet = without_controls(sheet)
    notes = Footnotes()
    rows, sections, before = [], set(), None
    for group, row in sheet.rows:
        if before is not None:
            sections.add(len(rows))
        before = group
        for length in sorted(row):
            cell = row[length]
            shown = length == min(row)
            spread = "" if cell.spread is None else f" ±{cell.spread:.3f}"
            known = cell.delta is not None and not cell.is_control
            interval = bounds(cell.interval.family if cell.interval else None)
            rows.append(
                [
                    entry(row_name(sheet, group) if shown else ""),
                    entry(extension_name(group) if shown else ""),
                    entry(heading(sheet, length), length),
                    entry(f"{nats(cell.nats_per_token)}{spread}") if cell.ok else notes.mark(cell),
                    entry(figure(cell.ppl) if cell.ppl is not None else ""),
                    entry(f"{signed(cell.delta)} {interval}" if known and cell.delta is not None else ""),
                    Entry((cell.verdict,), cell.verdict),
                ]
            )
    heads = ["scheme", "extension", "context", "nats/token", "ppl", "change, 95 % interval", "verdict"]
    title = "nats/token and perplexity by evaluation context in tokens, with the change against 1x"
    return Page(title, setup(sheet), heads, rows, [*notes.lines, *remarks(sheet)], 2, frozenset(sections))


def gain(sheet: Sheet) -> Page | None:
    """What a training at ℓ would have gained, and the share of it that each row gains; None without controls."""
    rows, sections, before = [], set(), None
    sheet = without_controls(sheet)
    for group, row in sheet.rows:
        for length, cell in sorted(row.items()):
            share = cell.share
            if share is None or cell.nats_per_token is None or cell.delta is None:
                continue
            name = row_name(sheet, group)
            if before not in (None, name):
                sections.add(len(rows))
            before = name
            rows.append(
                [
                    entry(name),
                    entry(extension_name(group)),
                    entry(heading(sheet, length), length),
                    entry(str(len(share.seeds))),
                    entry(nats(cell.nats_per_token - cell.delta), cell.nats_per_token - cell.delta),
                    entry(nats(cell.nats_per_token), cell.nats_per_token),
                    entry(nats(share.long), share.long),
                    entry(f"{signed(share.attainable)} {bounds(share.attainable_interval)}".strip(), share.attainable),
                    entry(DASH if share.long_gain is None else signed(share.long_gain), share.long_gain),
                    Entry((f"{percent(share.share)} {_percents(share.interval)}".strip(),), "", share.share),
                ]
            )
    if not rows:
        return None
    heads = ["scheme", "extension", "context ℓ", "seeds", "nats 1x", "nats ℓ", "long, nats ℓ", "attainable"]
    notes = [
        "long: the same scheme trained at ℓ from scratch with the same tokens and seeds, on the same targets.",
        "attainable = nats(1x) − long; long's own gain = its nats(L) − nats(ℓ). Share = (nats(1x) − nats(ℓ)) / "
        "attainable, a dash unless attainable is shown to be above 0. 95 % intervals, each for itself.",
        "Rank by nats, never by the share: it is of another whole for each scheme.",
    ]
    return Page(
        "Share of the attainable gain",
        setup(sheet),
        [*heads, "long's own gain", "share"],
        rows,
        notes,
        2,
        frozenset(sections),
    )


def _percents(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{percent(interval[0])}, {percent(interval[1])}]"


def protocols(cells: list[Cell]) -> Page | None:
    """The protocols under each other, row by row: what the literature's number hides. None without cells."""
    found = [without_controls(sheet) for sheet in sheets(cells)]
    found = [sheet for sheet in found if sheet.rows]
    if not found:
        return None
    lengths = sorted({length for sheet in found for length in sheet.lengths})
    contexts = {context for sheet in found for context in sheet.contexts}
    rank = {name: place for place, name in enumerate(PROTOCOLS)}
    entries: dict[tuple[str, str, Group], list[tuple[Sheet, dict[int, Cell]]]] = {}
    for sheet in sorted(found, key=lambda s: rank.get(s.comparison.protocol, len(rank))):
        for group, row in sheet.rows:
            entries.setdefault((row_name(sheet, group), extension_name(group), group), []).append((sheet, row))
    notes, sections = Footnotes(), set()
    rows: list[list[Entry]] = []
    for (name, extension, _), parts in entries.items():
        sections.add(len(rows))
        for place, (sheet, row) in enumerate(parts):
            protocol = sheet.comparison.protocol
            if [s.comparison.protocol for s, _ in parts].count(protocol) > 1:
                protocol += f" {sheet.comparison.targets_sha256[:6]}"
            rows.append(
                [
                    entry("" if place else name),
                    entry("" if place else extension),
                    entry(protocol),
                    *(_brief(row.get(length), notes) for length in lengths),
                ]
            )
    single = next(iter(contexts)) if len(contexts) == 1 else None
    heads = [f"{n} ({n / single:.4g}x)" if single else str(n) for n in lengths]
    remarks_ = [
        "Each row has targets of its own: compare changes along a row, not perplexities across rows.",
        "fixed-targets scores the same tokens with full context at every length. In non-overlapping and stream windows "
        "the share of targets with little context falls as the length grows: their perplexity falls without any use of "
        "the longer context.",
    ]
    return Page(
        "Perplexity and its change against 1x, by protocol",
        f"{found[0].comparison.data}, {found[0].comparison.split} split",
        ["scheme", "extension", "protocol", *heads],
        rows,
        [*notes.lines, *remarks_],
        3,
        frozenset(sections - {0}),
    )


def _brief(cell: Cell | None, notes: Footnotes) -> Entry:
    """``58.29 +27.4% breaks``."""
    if cell is None:
        return entry("")
    if cell.ppl is None:
        return notes.mark(cell)
    parts = [figure(cell.ppl)]
    if cell.delta is not None and not cell.is_control:
        parts.append(change(cell.delta))
        parts.append(cell.verdict)
    return Entry((" ".join(p for p in parts if p),), cell.verdict, cell.nats_per_token)


def compared(found: list[Difference], a: str, b: str, some: Record) -> Page:
    """A against B at each length."""
    rows = []
    for one in found:
        seeds = len(one.seeds)
        better = {"A is better": "uses", "B is better": "breaks", "undecided": "undecided"}.get(one.verdict, "")
        rows.append(
            [
                entry(f"{one.length} ({one.length / some.base_context:.4g}x)", one.length),
                entry(nats(one.a), one.a),
                entry(nats(one.b), one.b),
                entry(f"{signed(one.difference)} {bounds(one.interval.family if one.interval else None)}".strip()),
                entry(change(one.difference)),
                entry(str(seeds), seeds),
                Entry((one.verdict,), better),
            ]
        )
    first = found[0]
    notes = [
        "A − B in nats a token, paired by target; below 0, A is better. 95 % intervals, simultaneous over these "
        f"lengths. No difference: all of the interval within ±{DELTA:g}."
    ]
    if len(first.seeds) == 1:
        notes.append("One seed: the intervals speak of other documents only, not of another training.")
    if any(x != y for x, y in first.seeds):
        notes.append("The two share no seed: their seeds are paired in order.")
    if first.n_documents < FEW_DOCUMENTS:
        notes.append(f"Few documents: {first.n_documents} are too few for intervals to be relied on.")
    if all(one.interval is None for one in found):
        notes.append("No intervals: the NLL of single targets is not beside the records, or all are of one document.")
    targets = f"{first.n_targets:,} targets in {first.n_documents} documents"
    caption = f"{some.data}, {some.protocol}, {some.split} split, {targets}"
    heads = ["context", "A", "B", "A − B, 95 % interval", "perplexity", "seeds", "verdict"]
    return Page(f"A = {a}, B = {b}: paired difference in nats/token", caption, heads, rows, notes, 1)
