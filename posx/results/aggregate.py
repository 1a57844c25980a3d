"""From records to cells: means over seeds in nats, the change from 1x with its interval, and the usable context."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from statistics import fmean, stdev

from posx.results.attainable import with_shares
from posx.results.bootstrap import REPLICATES, Replicates
from posx.results.cells import Cell, Comparison, Controls, Group, comparison_of, group_of
from posx.results.records import Record, nats_of
from posx.results.sums import sums_of


def aggregate(records: Iterable[Record], replicates: int = REPLICATES) -> list[Cell]:
    """One cell for each comparison, group and length, in order of first appearance.

    Intervals are simultaneous over all changes of a comparison.
    """
    records = list(records)
    controls = Controls(records)
    cells, baselines = [], []
    for (comparison, group, length), seeds in _by_cell(records).items():
        ordered = sorted(seeds.values(), key=lambda r: (r.status != "ok", r.seed))
        computed = [r for r in ordered if r.nats_per_token is not None]
        before = [control for r in computed if (control := controls.of(r)) is not None]
        paired = len(before) == len(computed)
        values = [nats_of(r) for r in computed]
        deltas = tuple(nats_of(r) - nats_of(c) for r, c in zip(computed, before, strict=True)) if paired else ()
        cells.append(
            Cell(
                group,
                comparison,
                length,
                tuple(ordered),
                fmean(values) if values else None,
                fmean(deltas) if deltas else None,
                stdev(values) if len(values) > 1 else None,
                deltas,
            )
        )
        baselines.append(tuple(before) if deltas else ())
    marked = _mark_trained_long(cells)
    return _with_usable(with_shares(_with_intervals(marked, baselines, replicates), controls, replicates))


def _by_cell(records: list[Record]) -> dict[tuple[Comparison, Group, int], dict[int, Record]]:
    """The records of each cell by seed. A seed with several runs counts once, a computed record before a failed one."""
    cells: dict[tuple[Comparison, Group, int], dict[int, Record]] = {}
    for record in records:
        by_seed = cells.setdefault((comparison_of(record), group_of(record), record.length), {})
        if record.seed not in by_seed or (by_seed[record.seed].status != "ok" and record.status == "ok"):
            by_seed[record.seed] = record
    return cells


def _mark_trained_long(cells: list[Cell]) -> list[Cell]:
    """Rows that are evaluated only up to their own L, if there is a row of the same recipe with a smaller L."""
    least: dict[tuple[Comparison, str], int] = {}
    longest: dict[tuple[Comparison, Group], int] = {}
    for cell in cells:
        recipe = cell.comparison, cell.first.recipe_sha256
        least[recipe] = min(least.get(recipe, cell.group.base_context), cell.group.base_context)
        row = cell.comparison, cell.group
        longest[row] = max(longest.get(row, 0), cell.length)
    return [
        replace(cell, trained_long=True)
        if least[cell.comparison, cell.first.recipe_sha256] < cell.group.base_context
        and longest[cell.comparison, cell.group] <= cell.group.base_context
        else cell
        for cell in cells
    ]


def _with_intervals(cells: list[Cell], baselines: list[tuple[Record, ...]], replicates: int) -> list[Cell]:
    """The simultaneous intervals of all changes of a comparison. ``baselines``: the records at 1x of each cell."""
    out = list(cells)
    for comparison in dict.fromkeys(cell.comparison for cell in cells):
        judged = [
            (index, cell.computed, list(before))
            for index, (cell, before) in enumerate(zip(cells, baselines, strict=True))
            if cell.comparison == comparison and before and not (cell.is_control or cell.trained_long)
        ]
        sums = sums_of([record for _, after, before in judged for record in (*after, *before)])
        judged = [change for change in judged if sums.has(change[1]) and sums.has(change[2])]
        if not judged or not sums.speaks_of_others:
            continue
        changes = [sums.of(after) - sums.of(before) for _, after, before in judged]
        intervals = Replicates(sums.counts, changes, replicates).intervals()
        for (index, _, _), interval in zip(judged, intervals, strict=True):
            out[index] = replace(out[index], interval=interval)
    return out


def _with_usable(cells: list[Cell]) -> list[Cell]:
    """The usable context of each row: the largest evaluated ℓ ≥ L up to which nothing breaks or is missing."""
    rows: dict[tuple[Comparison, Group], list[Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.comparison, cell.group), []).append(cell)
    by_row: dict[tuple[Comparison, Group], tuple[int | None, int | None]] = {}
    for key, row in rows.items():
        usable, sure, doubt = None, None, False
        for cell in sorted(row, key=lambda c: c.length):
            if cell.length < cell.group.base_context:
                continue
            if not cell.ok or cell.verdict == "breaks":
                break
            if not cell.verdict and not cell.is_control:
                usable, sure = None, None  # unknown without an interval
                break
            usable = cell.length
            doubt = doubt or cell.verdict == "undecided"
            sure = sure if doubt else usable
        by_row[key] = (usable, sure)
    return [
        replace(cell, usable=usable, usable_sure=sure)
        for cell in cells
        for usable, sure in [by_row[cell.comparison, cell.group]]
    ]
