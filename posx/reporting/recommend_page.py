"""The ranking of posx recommend as a table."""

from __future__ import annotations

from posx.evaluation.recommend import Choice
from posx.reporting.table import Entry, Footnotes, Page, entry
from posx.results.aggregate import aggregate
from posx.results.records import Record, nats_of, perplexity
from posx.utils.format import bounds, figure, nats, signed


def page(choices: list[Choice], records: list[Record]) -> Page:
    """Choices in order, best first; ``records``: their records and those at 1x, for the change."""
    cells = {(cell.group.extension, cell.length): cell for cell in aggregate(records)}
    rows, footnotes = [], Footnotes()
    for rank, choice in enumerate(choices, 1):
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
            if rank == 1
            else f"{signed(choice.behind)} {bounds(choice.interval.family if choice.interval else None)}"
        )
        rows.append(
            [
                entry(str(rank), rank),
                entry(record.extension),
                entry(f"{figure(perplexity(nats_of(record)))} · {nats(record.nats_per_token)}", nats_of(record)),
                Entry((f"{change} {interval}".strip(),), cell.verdict),
                Entry((cell.verdict,), cell.verdict),
                Entry((behind.strip(),), "uses" if choice.as_good else ""),
                entry(f"{record.tokens_per_second:,.0f}", record.tokens_per_second),
            ]
        )
    first = choices[0].record
    setup = (
        f"{first.run} at {first.length} tokens ({first.multiple:.4g}x), {first.split} split of {first.data}, "
        f"{first.n_targets:,} targets in {first.n_documents} documents"
    )
    notes = [
        *footnotes.lines,
        "Ranked by nats/token. change: from the same weights at 1x. behind the best: difference from the first row. "
        "95% intervals over documents, simultaneous over each column; an interval that contains 0 shows no difference.",
        f"Chosen on the {first.split} split: report the number of the test split.",
    ]
    heads = ["", "extension", "ppl · nats", "change", "verdict", "behind the best", "tokens/s"]
    return Page("Extensions for this length", setup, heads, rows, notes, 2)
