"""The result of posx search as a table."""

from __future__ import annotations

import math

from posx.evaluation.longrope_search import FOUND, Row, Search
from posx.reporting.table import Entry, Page, entry
from posx.results.records import perplexity
from posx.utils.format import DASH, figure, nats, signed


def page(search: Search) -> Page:
    """All rows, best first by the held-out targets, or by those of the search if there are none."""
    has_held_out = all(row.held_out is not None for row in search.rows)
    lowest = min((row.held_out for row in search.rows[1:-1] if row.held_out is not None), default=None)

    def cell(value: float | None) -> Entry:
        if value is None or math.isinf(value):
            return entry(DASH)
        return entry(f"{figure(perplexity(value))} · {nats(value)}", value)

    def parts(row: Row) -> list[Entry]:
        change = "" if row.held_out is None or lowest is None else signed(row.held_out - lowest)
        entries = [entry(row.name), cell(row.searched), cell(row.held_out), entry(change)]
        return [Entry(e.lines, "uses" if row.name == FOUND else "", e.sort) for e in entries]

    ranked = sorted(search.rows, key=lambda row: row.searched if row.held_out is None else row.held_out)
    best, run = search.best, search.run.config
    setup = (
        f"{search.run.name} at {search.length} tokens ({search.length / run.base_context:.4g}x), "
        f"{search.config.split} split of {run.data.name}, seed {search.config.seed}"
    )
    attention = "auto (by s and L)" if best.attention is None else f"{best.attention:g}"
    notes = [
        f"{FOUND} is the best of {len(search.history)} candidates on the search targets, which are biased in its "
        f"favour: λ from {best.factors[0]:g} to {best.factors[-1]:g}, n = {best.n}, attention {attention}. The other "
        "rows are the starting points of the search, as factors rounded to four digits.",
    ]
    if has_held_out:
        notes.append("The search did not use the held-out targets. change: from the best of the other rows on these.")
        first = ranked[0].name
        if first != FOUND:
            notes.append(
                f"On held-out targets {first} is better: use it, or search with more targets (eval.max_targets=1024)."
            )
    else:
        why = "the search was stopped early" if search.stopped else "there are too few targets for two sets"
        notes.append(f"{DASH}: not scored on held-out targets, because {why}.")
    notes.append(f"Chosen on the {search.config.split} split: report the number of the test split.")
    held_out = f"{search.held_out.n_targets:,} held-out targets" if search.held_out else "held-out targets"
    heads = ["", f"{search.targets.n_targets:,} search targets, ppl · nats", f"{held_out}, ppl · nats", "change"]
    return Page("LongRoPE factors", setup, heads, [parts(row) for row in ranked], notes, 1)
