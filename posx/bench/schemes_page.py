"""The tables of posx bench."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from posx.bench.schemes import BASELINE
from posx.reporting.table import Page, entry, width_of
from posx.utils.format import DASH, MB, figure


def setup_words(setup: dict[str, Any]) -> str:
    """The setup as the caption of a table."""
    evaluation = f"; evaluation in {setup['eval_dtype']}" if setup["eval_dtype"] else ""
    posx = f"posx {setup['posx']}, " if setup.get("posx") else ""  # missing in older files
    return (
        f"{setup['device']}, {posx}torch {setup['torch']}, {setup['threads']} thread{'s' * (setup['threads'] != 1)}; "
        f"{setup['n_layers']} layers, width {setup['d_model']}, {setup['n_heads']} heads, context {setup['context']}, "
        f"vocabulary {setup['vocab_size']}, data {setup['data']}; training in {setup['dtype']}, "
        f"{'compiled' if setup['compiled'] else 'uncompiled'}, {setup['step_tokens']} tokens per step{evaluation}"
    )


def pages(rows: list[dict[str, Any]], width: int | None = None) -> list[Page]:
    """One table, or three if a terminal of ``width`` columns is too narrow for it."""
    whole = page(rows)
    return [whole] if width is None or width_of(whole) <= width else folded(rows)


def page(rows: list[dict[str, Any]]) -> Page:
    """A table of the rows of :func:`posx.bench.schemes.measure`."""
    reasons: list[str] = []

    def dash(reason: str) -> str:
        if reason and reason not in reasons:
            reasons.append(reason)
        return f"{DASH} [{reasons.index(reason) + 1}]" if reason else DASH

    def rate(cell: dict[str, Any], key: str = "tokens_per_second", with_ratio: bool = True) -> str:
        if cell[key] is None:
            return dash(cell["reason"])
        number = figure(cell[key], 3) if key == "step_ms" else f"{cell[key]:,.0f}"
        times = DASH if cell["ratio"] is None else f"×{cell['ratio']:.2f}"
        return f"{number} {times}" if with_ratio else number

    def memory(cell: dict[str, Any]) -> str:
        peak = cell["peak_memory_bytes"]
        return dash(cell["reason"]) if peak is None else f"{peak / MB:,.0f}"

    lines = []
    for row in rows:
        train, evals = row["train"], row["eval"]
        rates = [rate(train, "step_ms"), rate(train, with_ratio=False), *map(rate, evals)]
        lines.append([row["name"], *rates, memory(train), *map(memory, evals)])
    first = next((row for row in rows if row["setup"]["threads"]), rows[0])
    cells = [cell for row in rows for cell in (row["train"], *row["eval"])]
    rounds = max(len(cell["seconds_a_token"]) for cell in cells)
    notes = [
        *(f"[{number}] {reason}" for number, reason in enumerate(reasons, start=1)),
        f"×: time relative to {BASELINE}, the median of the ratios within each of {rounds} "
        f"round{'s' * (rounds != 1)}{_spread(cells)}. "
        "Rates count input tokens. MB: peak memory of the process, minus its memory before the model was built, in "
        "training and in evaluation at each length.",
        f"Command: `{rows[0]['command']}`.",
    ]
    heads = [
        "scheme",
        "step, ms",
        "training, tokens/s",
        *(f"{length}, tokens/s" for length in lengths_of(rows)),
        "training, MB",
        *(f"at {cell['length']}, MB" for cell in rows[0]["eval"]),
    ]
    return Page(
        "Scheme cost",
        setup_words(first["setup"]),
        heads,
        [[entry(text) for text in line] for line in lines],
        notes,
        left=1,
    )


def lengths_of(rows: list[dict[str, Any]]) -> list[str]:
    """The evaluation lengths as headings: ``1024 (4x)``."""
    return [f"{cell['length']} ({cell['multiple']:.3g}x)" for cell in rows[0]["eval"]]


def folded(rows: list[dict[str, Any]]) -> list[Page]:
    """The same columns in three tables: training; evaluation rates by length; evaluation memory by length."""
    whole, lengths = page(rows), lengths_of(rows)
    count = len(lengths)
    rates, memory = range(3, 3 + count), range(4 + count, 4 + 2 * count)

    def part(work: str, setup: str, columns: Iterable[int], heads: list[str], notes: list[str]) -> Page:
        lines = [[line[column] for column in (0, *columns)] for line in whole.rows]
        return Page(f"{whole.title} in {work}", setup, ["scheme", *heads], lines, notes, left=1)

    return [
        part("training", whole.setup, (1, 2, 3 + count), ["step, ms", "tokens/s", "MB"], []),
        part("evaluation, tokens/s", "by evaluation length in tokens", rates, lengths, []),
        part("evaluation, MB", "by evaluation length in tokens", memory, lengths, whole.notes),
    ]


def _spread(cells: list[dict[str, Any]]) -> str:
    """How much ratios vary between rounds, which limits the differences that can be resolved."""
    ranges = [(max(r) - min(r)) / cell["ratio"] for cell in cells if len(r := cell["ratios"]) > 1 and set(r) != {1.0}]
    return f" (in the median cell, ratios vary by {statistics.median(ranges):.0%} between rounds)" if ranges else ""
