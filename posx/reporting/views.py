"""The tables of posx, one function each: cells in, a page out. :mod:`posx.reporting.formats` gives it a form."""

from __future__ import annotations

from itertools import pairwise

from posx.config.schema import PROTOCOLS
from posx.reporting.grouping import (
    Sheet,
    extension_name,
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
    """All tables of these cells. ``width``: columns of the terminal; a grid that is wider becomes a row per number."""
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


def usable(cell: Cell) -> Entry:
    """``512``; ``64–512?`` where only 64 is shown and the rest is undecided; or a dash."""
    if cell.usable is None:
        return entry(DASH)
    if not cell.usable_undecided:
        return entry(f"{cell.usable}", cell.usable)
    sure = "" if cell.usable_sure is None else f"{cell.usable_sure}–"
    return entry(f"{sure}{cell.usable}?", cell.usable_sure or 0)


def _value(cell: Cell) -> str:
    """Perplexity, and nats a token with their spread."""
    assert cell.ppl is not None
    spread = "" if cell.spread is None else f" ±{cell.spread:.3f}"
    return f"{figure(cell.ppl)} · {nats(cell.nats_per_token)}{spread}"


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
                entry(_seeds(row), len(some.seeds)),
                *(number(row.get(length), notes) for length in sheet.lengths),
                usable(some),
            ]
        )
    heads = ["scheme", "extension", "params", "seeds", *(heading(sheet, n) for n in sheet.lengths), "usable"]
    title = "Perplexity · nats/token by evaluation context in tokens, with the change against 1x"
    return Page(title, setup(sheet), heads, rows, [*notes.lines, *remarks(sheet)], 2, frozenset(sections))


def long_form(sheet: Sheet) -> Page:
    """The same, a line for each number: for a narrow terminal. A row's name stands above its numbers."""
    sheet = without_controls(sheet)
    notes = Footnotes()
    rows: list[list[Entry]] = []
    sections = set()
    for group, row in sheet.rows:
        sections.add(len(rows))
        extension = extension_name(group)
        name = row_name(sheet, group) + ("" if extension == "none" else f" + {extension}")
        held = usable(next(iter(row.values()))).text
        for told in (name, f"{_seeds(row)} seed{'' if _seeds(row) == '1' else 's'}, usable {held}"):
            rows.append([entry(told), *[entry("")] * 4])
        for length in sorted(row):
            cell = row[length]
            known = cell.delta is not None and not cell.is_control
            interval = bounds(cell.interval.family if cell.interval else None)
            spread = "" if cell.spread is None else f" ±{cell.spread:.3f}"
            dash = "" if cell.ok else notes.mark(cell).text
            values = [
                f"{nats(cell.nats_per_token)}{spread}" if cell.ok else dash,
                figure(cell.ppl) if cell.ppl is not None else "",
                f"{signed(cell.delta)} {interval}".strip() if known and cell.delta is not None else "",
                cell.verdict,
            ]
            rows.append(
                [
                    entry(f"  {heading(sheet, length)}", length),
                    *(Entry((value,), cell.verdict) for value in values),
                ]
            )
    heads = ["context", "nats/token", "ppl", "change, 95 % interval", "verdict"]
    title = "nats/token and perplexity by evaluation context in tokens, with the change against 1x"
    return Page(title, setup(sheet), heads, rows, [*notes.lines, *remarks(sheet)], 1, frozenset(sections - {0}))


def _seeds(row: dict[int, Cell]) -> str:
    """How many seeds are behind the numbers of a row: ``5``, or ``1–3`` where they differ."""
    numbers = [len(cell.seeds) for cell in row.values() if cell.ok] or [len(next(iter(row.values())).records)]
    least, most = min(numbers), max(numbers)
    return f"{most}" if least == most else f"{least}–{most}"


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
                    _again(name, place),
                    _again(extension, place),
                    entry(protocol),
                    entry(_seeds(row), len(next(iter(row.values())).seeds)),
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
    fewest = min(sheet.any.first.n_documents for sheet in found)
    if fewest < FEW_DOCUMENTS:
        remarks_.append(f"Few documents: {fewest} are too few for intervals to be relied on.")
    return Page(
        "Perplexity and its change against 1x, by protocol",
        f"{found[0].comparison.data}, {found[0].comparison.split} split",
        ["scheme", "extension", "protocol", "seeds", *heads],
        rows,
        [*notes.lines, *remarks_],
        3,
        frozenset(sections - {0}),
    )


def _again(text: str, place: int) -> Entry:
    """Said in the first row of several alone."""
    return Entry(("",), unsaid=text) if place else entry(text)


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
    """Nats a token by available context, from whole windows."""
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
                shown = [nats(point.mean) for point in points]
                rows.append([entry(row_name(sheet, group)), entry(extension_name(group)), *map(entry, shown)])
    heads = heads[: max((len(parts) - 2 for parts in rows), default=0)]
    rows = [[*parts, *[entry("")] * (len(heads) + 2 - len(parts))] for parts in rows]
    notes = [
        f"Whole windows of {longest}: the columns are tokens of context that a target had. Other tokens stand in other "
        "columns, so that a fall to the right mixes use of context with the place of the text.",
        f"Only documents with more than {sheet.any.first.target_context} tokens speak. "
        "posx plot --kind position draws intervals.",
    ]
    return Page("nats/token by available context", setup(sheet), ["scheme", "extension", *heads], rows, notes)


def comparison(found: list[Difference], a: str, b: str, some: Record) -> Page:
    """A − B at each length, with its interval and who is better."""
    rows = []
    for one in found:
        better = {"A is better": "uses", "B is better": "breaks", "undecided": "undecided"}.get(one.verdict, "")
        rows.append(
            [
                entry(f"{one.length} ({one.length / some.base_context:.4g}x)", one.length),
                entry(nats(one.a), one.a),
                entry(nats(one.b), one.b),
                entry(f"{signed(one.difference)} {bounds(one.interval.family if one.interval else None)}".strip()),
                entry(change(one.difference)),
                Entry((one.verdict,), better),
            ]
        )
    known = [one for one in found if one.interval is not None]
    fewest = min(one.n_documents for one in found)
    seeds = list(dict.fromkeys(", ".join(str(x) for x, _ in one.seeds) for one in found))
    notes = [
        "A − B in nats a token, paired by target; below 0, A is better. ppl: the change of perplexity.",
        f"Seeds that both have: {' or '.join(seeds)}.",
    ]
    if known:
        notes.append(
            f"95 % intervals, simultaneous over these lengths. No difference: all of the interval within ±{DELTA:g}."
        )
        if any(len(one.seeds) == 1 for one in known):
            notes.append("One seed: the intervals speak of other documents only, not of another training.")
        if fewest < FEW_DOCUMENTS:
            notes.append(f"Few documents: {fewest} are too few for intervals to be relied on.")
    else:
        notes.append("No intervals: the NLL of single targets is not beside the records, or all are of one document.")
    if any(x != y for one in found for x, y in one.seeds):
        notes.append("The two share no seed: their seeds are paired in order.")
    targets = " and ".join(
        f"{n:,} targets in {d} documents" for n, d in dict.fromkeys((one.n_targets, one.n_documents) for one in found)
    )
    caption = f"{some.data}, {some.protocol}, {some.split} split, {targets}"
    heads = ["context", "A", "B", "A − B, 95 % interval", "ppl", "verdict"]
    return Page(f"A = {a}, B = {b}: paired difference in nats/token", caption, heads, rows, notes, 1)
