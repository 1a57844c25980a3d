"""The ranking of posx recommend as a table."""

from __future__ import annotations

from posx.evaluation.recommend import Choice
from posx.reporting.table import Entry, Footnotes, Page, entry
from posx.results.aggregate import aggregate
from posx.results.records import Record, nats_of, perplexity
from posx.utils.format import bounds, figure, nats, signed


def page(choices: list[Choice], records: list[Record]) -> Page:
    """The ranking as a table."""
    cells = {(cell.group.extension, cell.length): cell for cell in aggregate(records)}
    rows, footnotes = [], Footnotes()
    for place, choice in enumerate(choices, 1):
        record = choice.record
        cell = cells[record.extension, record.length]
        if choice.behind is None:
            dash = footnotes.mark(cell)
            rows.append([entry(""), entry(record.extension), dash, *([entry("")] * 4)])
            continue
        change = "" if cell.delta is None else signed(cell.delta)
        interval = bounds(cell.interval.family if cell.interval else None)
        behind = (
            "best"
            if place == 1
            else f"{signed(choice.behind)} {bounds(choice.interval.family if choice.interval else None)}"
        )
        rows.append(
            [
                entry(str(place), place),
                entry(record.extension),
                entry(f"{figure(perplexity(nats_of(record)))} · {nats(record.nats_per_token)}", nats_of(record)),
                Entry((f"{change} {interval}".strip(),), cell.verdict),
                Entry((cell.verdict,), cell.verdict),
                Entry((behind.strip(),), "uses" if choice.as_good else ""),
                entry(f"{record.tokens_per_second:,.0f}", record.tokens_per_second),
            ]
        )
    some = choices[0].record
    setup = (
        f"{some.run} at {some.length} tokens ({some.multiple:.4g}x), {some.split} split of {some.data}, "
        f"{some.n_targets:,} targets in {some.n_documents} documents"
    )
    notes = [
        *footnotes.lines,
        "Ranked by nats/token. Changes are against the same weights at 1x, what is behind is against the first row. "
        "95 % intervals over documents, simultaneous over their column; one that reaches 0 tells no difference.",
        f"Chosen on {some.split}: report the number of the test split.",
    ]
    heads = ["", "extension", "ppl · nats", "change", "verdict", "behind the best", "tokens/s"]
    return Page("Extensions for this length", setup, heads, rows, notes, 2)
