"""The tables of posx: each function turns cells into a :class:`Page`, which :mod:`posx.reporting.formats` renders."""

from __future__ import annotations

from itertools import pairwise

from posx.config.schema import PROTOCOLS
from posx.reporting.grouping import (
    NO_INTERVALS,
    ONE_SEED,
    Sheet,
    extension_name,
    few_documents,
    heading,
    remarks,
    row_name,
    setup,
    sheets,
    without_controls,
)
from posx.reporting.table import Entry, Footnotes, Page, entry, width_of
from posx.results.bootstrap import FEW_DOCUMENTS
from posx.results.cells import DELTA, Cell, Group
from posx.results.compare import Difference
from posx.results.curves import by_context
from posx.results.parts import octaves
from posx.results.records import Record
from posx.utils.format import DASH, bounds, change, count, figure, nats, percent, signed


def pages(cells: list[Cell], side_by_side: bool = False, width: int | None = None) -> list[Page]:
    """All tables of these cells. A grid wider than ``width`` (terminal columns) is printed with one row per number."""
    if side_by_side:
        page = protocols(cells)
        return [page] if page else []
    tables = []
    for sheet in sheets(cells):
        if sheet.comparison.protocol == "curve":
            tables.append(curve(sheet))
            continue
        page = grid(sheet)
        tables.append(page if width is None or width_of(page) <= width else long_form(sheet))
        shares = gain(sheet)
        if shares is not None:
            tables.append(shares)
    return tables


def usable(cell: Cell) -> Entry:
    """``512``; ``64–512?`` if only 64 is certain; or a dash."""
    if cell.usable is None:
        return entry(DASH)
    if not cell.usable_undecided:
        return entry(f"{cell.usable}", cell.usable)
    lower = "" if cell.usable_sure is None else f"{cell.usable_sure}–"
    return entry(f"{lower}{cell.usable}?", cell.usable_sure or 0)


def _value(cell: Cell) -> str:
    """Perplexity, and nats/token with their standard deviation."""
    assert cell.ppl is not None
    spread = "" if cell.spread is None else f" ±{cell.spread:.3f}"
    return f"{figure(cell.ppl)} · {nats(cell.nats_per_token)}{spread}"


def number(cell: Cell | None, notes: Footnotes) -> Entry:
    """Perplexity and nats; the change with its interval; the verdict. If there is no number, a dash and a footnote."""
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
    rows, sections, previous = [], set(), None
    for group, row in sheet.rows:
        name, cell = row_name(sheet, group), next(iter(row.values()))
        if previous not in (None, name):
            sections.add(len(rows))
        previous = name
        rows.append(
            [
                entry(name),
                entry(extension_name(group)),
                entry(count(cell.first.parameters), cell.first.parameters),
                entry(_seeds(row), len(cell.seeds)),
                *(number(row.get(length), notes) for length in sheet.lengths),
                usable(cell),
            ]
        )
    heads = ["scheme", "extension", "params", "seeds", *(heading(sheet, n) for n in sheet.lengths), "usable"]
    title = "Perplexity · nats/token by evaluation length in tokens, with the change from 1x"
    return Page(title, setup(sheet), heads, rows, [*notes.lines, *remarks(sheet)], 2, frozenset(sections))


def long_form(sheet: Sheet) -> Page:
    """The same table with one line per number, for a narrow terminal. The name of a row is printed above its lines."""
    sheet = without_controls(sheet)
    notes = Footnotes()
    rows: list[list[Entry]] = []
    sections = set()
    for group, row in sheet.rows:
        sections.add(len(rows))
        extension = extension_name(group)
        name = row_name(sheet, group) + ("" if extension == "none" else f" + {extension}")
        usable_length = usable(next(iter(row.values()))).text
        for line in (name, f"{_seeds(row)} seed{'' if _seeds(row) == '1' else 's'}, usable {usable_length}"):
            rows.append([entry(line), *[entry("")] * 4])
        for length in sorted(row):
            cell = row[length]
            has_change = cell.delta is not None and not cell.is_control
            interval = bounds(cell.interval.family if cell.interval else None)
            spread = "" if cell.spread is None else f" ±{cell.spread:.3f}"
            dash = "" if cell.ok else notes.mark(cell).text
            values = [
                f"{nats(cell.nats_per_token)}{spread}" if cell.ok else dash,
                figure(cell.ppl) if cell.ppl is not None else "",
                f"{signed(cell.delta)} {interval}".strip() if has_change and cell.delta is not None else "",
                cell.verdict,
            ]
            rows.append(
                [
                    entry(f"  {heading(sheet, length)}", length),
                    *(Entry((value,), cell.verdict) for value in values),
                ]
            )
    heads = ["length", "nats/token", "ppl", "change, 95% interval", "verdict"]
    title = "nats/token and perplexity by evaluation length in tokens, with the change from 1x"
    return Page(title, setup(sheet), heads, rows, [*notes.lines, *remarks(sheet)], 1, frozenset(sections - {0}))


def _seeds(row: dict[int, Cell]) -> str:
    """The number of seeds per cell of a row: ``5``, or ``1–3`` if it varies."""
    numbers = [len(cell.seeds) for cell in row.values() if cell.ok] or [len(next(iter(row.values())).records)]
    least, most = min(numbers), max(numbers)
    return f"{most}" if least == most else f"{least}–{most}"


def gain(sheet: Sheet) -> Page | None:
    """The gain from training at ℓ, and the share of it that each row reaches; None without controls."""
    rows, sections, previous = [], set(), None
    sheet = without_controls(sheet)
    for group, row in sheet.rows:
        for length, cell in sorted(row.items()):
            share = cell.share
            if share is None or cell.nats_per_token is None or cell.delta is None:
                continue
            name = row_name(sheet, group)
            if previous not in (None, name):
                sections.add(len(rows))
            previous = name
            rows.append(
                [
                    entry(name),
                    entry(extension_name(group)),
                    entry(heading(sheet, length), length),
                    entry(str(len(share.seeds)), len(share.seeds)),
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
    heads = ["scheme", "extension", "length ℓ", "seeds", "nats 1x", "nats ℓ", "long, nats ℓ", "attainable"]
    notes = [
        "long: the same scheme trained from scratch at ℓ, with the same number of tokens and the same seeds, evaluated "
        "on the same targets.",
        "attainable = nats(1x) − long; gain of long = its nats(L) − its nats(ℓ); share = (nats(1x) − nats(ℓ)) / "
        "attainable, a dash unless the interval of attainable is above 0. Intervals are 95% each, not simultaneous.",
        "Rank schemes by nats, not by share: each scheme's share has a different denominator.",
    ]
    return Page(
        "Share of the attainable gain",
        setup(sheet),
        [*heads, "gain of long", "share"],
        rows,
        notes,
        2,
        frozenset(sections),
    )


def _percents(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{percent(interval[0])}, {percent(interval[1])}]"


def protocols(cells: list[Cell]) -> Page | None:
    """One row per protocol for each scheme and extension. None if there are no cells.

    Shows how much of the number usually reported depends on the protocol.
    """
    compared = [without_controls(sheet) for sheet in sheets(cells)]
    compared = [sheet for sheet in compared if sheet.rows]
    if not compared:
        return None
    lengths = sorted({length for sheet in compared for length in sheet.lengths})
    contexts = {context for sheet in compared for context in sheet.contexts}
    rank = {name: index for index, name in enumerate(PROTOCOLS)}
    entries: dict[tuple[str, str, Group], list[tuple[Sheet, dict[int, Cell]]]] = {}
    for sheet in sorted(compared, key=lambda s: rank.get(s.comparison.protocol, len(rank))):
        for group, row in sheet.rows:
            entries.setdefault((row_name(sheet, group), extension_name(group), group), []).append((sheet, row))
    notes, sections = Footnotes(), set()
    rows: list[list[Entry]] = []
    for (name, extension, _), parts in entries.items():
        sections.add(len(rows))
        for index, (sheet, row) in enumerate(parts):
            protocol = sheet.comparison.protocol
            if [s.comparison.protocol for s, _ in parts].count(protocol) > 1:
                protocol += f" {sheet.comparison.targets_sha256[:6]}"
            rows.append(
                [
                    _once(name, index),
                    _once(extension, index),
                    entry(protocol),
                    entry(_seeds(row), len(next(iter(row.values())).seeds)),
                    *(_brief(row.get(length), notes) for length in lengths),
                ]
            )
    single = next(iter(contexts)) if len(contexts) == 1 else None
    heads = [f"{n} ({n / single:.4g}x)" if single else str(n) for n in lengths]
    remarks_ = [
        "Each row has its own targets: compare changes within a row, not perplexities across rows.",
        "fixed-targets scores the same tokens with full context at every length. With non-overlapping and stream "
        "windows, fewer targets have little context as the length grows, so perplexity falls even if the model makes "
        "no use of the longer context.",
    ]
    fewest = min(sheet.any.first.n_documents for sheet in compared)
    if fewest < FEW_DOCUMENTS:
        remarks_.append(few_documents(fewest))
    return Page(
        "Perplexity and its change from 1x, by protocol",
        f"{compared[0].comparison.data}, {compared[0].comparison.split} split",
        ["scheme", "extension", "protocol", "seeds", *heads],
        rows,
        [*notes.lines, *remarks_],
        3,
        frozenset(sections - {0}),
    )


def _once(text: str, index: int) -> Entry:
    """Printed in the first of several rows only."""
    return Entry(("",), unsaid=text) if index else entry(text)


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


def curve(sheet: Sheet) -> Page:
    """Nats/token by available context, from whole windows."""
    longest = max(sheet.lengths)
    heads = []
    for low, past in pairwise(octaves(longest).tolist()):
        last = min(past - 1, longest)
        heads.append(f"{low}" if low >= last else f"{low}–{last}")
    rows: list[list[Entry]] = []
    for group, row in sheet.rows:
        for cell in row.values():
            if cell.ok:
                points = by_context(cell, octaves(cell.length)).points
                values = [nats(point.mean) for point in points]
                rows.append([entry(row_name(sheet, group)), entry(extension_name(group)), *map(entry, values)])
    heads = heads[: max((len(parts) - 2 for parts in rows), default=0)]
    rows = [[*parts, *[entry("")] * (len(heads) + 2 - len(parts))] for parts in rows]
    notes = [
        f"Windows of {longest} tokens; columns are the number of context tokens available to a target. Different "
        "columns score different tokens, so a decrease to the right is partly due to the text itself.",
        f"Only documents longer than {sheet.any.first.target_context} tokens are scored. "
        "posx plot --kind position draws intervals.",
    ]
    return Page("nats/token by available context", setup(sheet), ["scheme", "extension", *heads], rows, notes)


def comparison(differences: list[Difference], a: str, b: str, record: Record) -> Page:
    """A − B at each length, with its interval and which of the two is better. ``record``: any of those compared."""
    rows = []
    for d in differences:
        style = {"A is better": "uses", "B is better": "breaks", "undecided": "undecided"}.get(d.verdict, "")
        rows.append(
            [
                entry(f"{d.length} ({d.length / record.base_context:.4g}x)", d.length),
                entry(nats(d.a), d.a),
                entry(nats(d.b), d.b),
                entry(f"{signed(d.difference)} {bounds(d.interval.family if d.interval else None)}".strip()),
                entry(change(d.difference)),
                Entry((d.verdict,), style),
            ]
        )
    with_interval = [d for d in differences if d.interval is not None]
    fewest = min(d.n_documents for d in differences)
    seeds = list(dict.fromkeys(", ".join(str(x) for x, _ in d.seeds) for d in differences))
    notes = [
        "A − B in nats/token, paired by target; A is better if it is negative. ppl: the change in perplexity.",
        f"Seeds in common: {' or '.join(seeds)}.",
    ]
    if with_interval:
        notes.append(
            f"95% intervals, simultaneous over these lengths. No difference: the whole interval is within ±{DELTA:g}."
        )
        if any(len(d.seeds) == 1 for d in with_interval):
            notes.append(ONE_SEED)
        if fewest < FEW_DOCUMENTS:
            notes.append(few_documents(fewest))
    else:
        notes.append(NO_INTERVALS)
    if any(x != y for d in differences for x, y in d.seeds):
        notes.append("A and B have no seed in common: their seeds are paired in order.")
    targets = " and ".join(
        f"{n:,} targets in {documents} documents"
        for n, documents in dict.fromkeys((d.n_targets, d.n_documents) for d in differences)
    )
    caption = f"{record.data}, {record.protocol}, {record.split} split, {targets}"
    heads = ["length", "A", "B", "A − B, 95% interval", "ppl", "verdict"]
    return Page(f"A = {a}, B = {b}: paired difference in nats/token", caption, heads, rows, notes, 1)
