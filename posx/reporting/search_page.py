"""What posx search found, as a table."""

from __future__ import annotations

import math

from posx.evaluation.longrope_search import FOUND, Row, Search
from posx.reporting.table import Entry, Page, entry
from posx.results.records import perplexity
from posx.utils.format import DASH, figure, nats, signed


def page(found: Search) -> Page:
    """All rows, the best first: on the held-out targets, where there are any."""
    known = all(row.held_out is not None for row in found.rows)
    least = min((row.held_out for row in found.rows[1:-1] if row.held_out is not None), default=None)

    def cell(value: float | None) -> Entry:
        if value is None or math.isinf(value):
            return entry(DASH)
        return entry(f"{figure(perplexity(value))} · {nats(value)}", value)

    def parts(row: Row) -> list[Entry]:
        change = "" if row.held_out is None or least is None else signed(row.held_out - least)
        told = [entry(row.name), cell(row.searched), cell(row.held_out), entry(change)]
        return [Entry(one.lines, "uses" if row.name == FOUND else "", one.sort) for one in told]

    ranked = sorted(found.rows, key=lambda row: row.searched if row.held_out is None else row.held_out)
    best, run = found.best, found.run.config
    setup = (
        f"{found.run.name} at {found.length} tokens ({found.length / run.base_context:.4g}x), "
        f"{found.config.split} split of {run.data.name}, seed {found.config.seed}"
    )
    attention = "by s and L" if best.attention is None else f"{best.attention:g}"
    notes = [
        f"{FOUND} is the best of {len(found.history)} on the targets of the search, which flatter it: λ from "
        f"{best.factors[0]:g} to {best.factors[-1]:g}, n = {best.n}, attention {attention}. All others are where the "
        "search began, as factors of four digits.",
    ]
    if known:
        notes.append("The search did not see the targets held out. Change: against the best of the others on these.")
        first = ranked[0].name
        if first != FOUND:
            notes.append(f"Held out, {first} is better: use it, or search with more targets (eval.max_targets=1024).")
    else:
        why = "the search was stopped before" if found.stopped else "there are too few targets for two sets"
        notes.append(f"{DASH}: nothing was scored on targets held out, since {why}.")
    notes.append(f"Chosen on {found.config.split}: report the number of the test split.")
    held_out = f"{found.held_out.n_targets:,} held out" if found.held_out else "held out"
    heads = ["", f"{found.targets.n_targets:,} of the search, ppl · nats", f"{held_out}, ppl · nats", "change"]
    return Page("Factors of longrope", setup, heads, [parts(row) for row in ranked], notes, 1)
