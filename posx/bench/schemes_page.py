"""The table of posx bench: what its rows say, and what they hold for."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from posx.bench.schemes import BASELINE
from posx.reporting.table import Page, entry, width_of
from posx.utils.format import DASH, MB, figure


def setup_words(made: dict[str, Any]) -> str:
    """For a table's head."""
    evaluation = f"; evaluation in {made['eval_dtype']}" if made["eval_dtype"] else ""
    posx = f"posx {made['posx']}, " if made.get("posx") else ""  # older files do not say
    return (
        f"{made['device']}, {posx}torch {made['torch']}, {made['threads']} thread{'s' * (made['threads'] != 1)}; "
        f"{made['n_layers']} layers, width {made['d_model']}, {made['n_heads']} heads, context {made['context']}, "
        f"vocabulary {made['vocab_size']}, data {made['data']}; training in {made['dtype']}, "
        f"{'compiled' if made['compiled'] else 'uncompiled'}, {made['step_tokens']} tokens a step{evaluation}"
    )


def pages(rows: list[dict[str, Any]], width: int | None = None) -> list[Page]:
    """One table; where a terminal of ``width`` columns is too narrow for it, three."""
    whole = page(rows)
    return [whole] if width is None or width_of(whole) <= width else folded(rows)


def page(rows: list[dict[str, Any]]) -> Page:
    """A row for each scheme of what :func:`posx.bench.schemes.measure` found, a column for each figure."""
    reasons: list[str] = []

    def dash(reason: str) -> str:
        if reason and reason not in reasons:
            reasons.append(reason)
        return f"{DASH} [{reasons.index(reason) + 1}]" if reason else DASH

    def rate(cell: dict[str, Any], key: str = "tokens_per_second", beside: bool = True) -> str:
        if cell[key] is None:
            return dash(cell["reason"])
        number = figure(cell[key], 3) if key == "step_ms" else f"{cell[key]:,.0f}"
        times = DASH if cell["ratio"] is None else f"×{cell['ratio']:.2f}"
        return f"{number} {times}" if beside else number

    def memory(cell: dict[str, Any]) -> str:
        peak = cell["peak_memory_bytes"]
        return dash(cell["reason"]) if peak is None else f"{peak / MB:,.0f}"

    lines = []
    for row in rows:
        train, evals = row["train"], row["eval"]
        rates = [rate(train, "step_ms"), rate(train, beside=False), *map(rate, evals)]
        lines.append([row["name"], *rates, memory(train), *map(memory, evals)])
    first = next((row for row in rows if row["setup"]["threads"]), rows[0])
    cells = [cell for row in rows for cell in (row["train"], *row["eval"])]
    rounds = max(len(cell["seconds_a_token"]) for cell in cells)
    notes = [
        *(f"[{number}] {reason}" for number, reason in enumerate(reasons, start=1)),
        f"×: time beside {BASELINE}'s, the median over {rounds} round{'s' * (rounds != 1)} of the ratio within the "
        f"round{_spread(cells)}. "
        "Rates count input tokens. MB: the most that the process held above what it held before the model was built, "
        "in training and in evaluation at each length.",
        f"Made by `{rows[0]['command']}`.",
    ]
    heads = [
        "scheme",
        "step, ms",
        "training, tokens/s",
        *(f"{context}, tokens/s" for context in contexts(rows)),
        "training, MB",
        *(f"at {cell['length']}, MB" for cell in rows[0]["eval"]),
    ]
    return Page(
        "What the schemes cost",
        setup_words(first["setup"]),
        heads,
        [[entry(text) for text in line] for line in lines],
        notes,
        left=1,
    )


def contexts(rows: list[dict[str, Any]]) -> list[str]:
    """What each length of evaluation is called: ``1024 (4x)``."""
    return [f"{cell['length']} ({cell['multiple']:.3g}x)" for cell in rows[0]["eval"]]


def folded(rows: list[dict[str, Any]]) -> list[Page]:
    """The same columns in three tables: training; rates of evaluation by length; its memory by length."""
    whole, lengths = page(rows), contexts(rows)
    count = len(lengths)
    rates, memory = range(3, 3 + count), range(4 + count, 4 + 2 * count)

    def part(words: str, setup: str, columns: Iterable[int], heads: list[str], notes: list[str]) -> Page:
        lines = [[line[place] for place in (0, *columns)] for line in whole.rows]
        return Page(f"{whole.title} in {words}", setup, ["scheme", *heads], lines, notes, left=1)

    return [
        part("training", whole.setup, (1, 2, 3 + count), ["step, ms", "tokens/s", "MB"], []),
        part("evaluation, tokens/s", "by context in tokens", rates, lengths, []),
        part("evaluation, MB", "by context in tokens", memory, lengths, whole.notes),
    ]


def _spread(cells: list[dict[str, Any]]) -> str:
    """How much the rounds disagree: what a small difference is worth."""
    ranges = [(max(r) - min(r)) / cell["ratio"] for cell in cells if len(r := cell["ratios"]) > 1 and set(r) != {1.0}]
    return f" (from the least to the greatest {statistics.median(ranges):.0%}, in the median cell)" if ranges else ""
