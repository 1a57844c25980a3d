"""From records to cells: aggregated over seeds in nats, with a change against 1x, its interval and a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from posx.results.attainable import Share, with_shares
from posx.results.bootstrap import REPLICATES, Interval, Replicates
from posx.results.records import Record, as_json, bits_per_byte, nats_of, perplexity
from posx.results.sums import sums_of

DELTA = 0.01  # δ, nats a token: a smaller loss than this is none
# What differs between the seeds of a cell: lists in a row of JSON or CSV, in the order of ``seeds``.
PER_SEED = ("run", "seed", "nats", "checkpoint_sha256")


@dataclass(frozen=True)
class Group:
    """What the numbers of one row share: everything but seed and length."""

    label: str
    scheme: str
    extension: str
    config_sha256: str
    base_context: int
    train_context: int
    train_extension: str
    dtype: str


@dataclass(frozen=True)
class Comparison:
    """What one table shares: only numbers over the same targets stand side by side."""

    protocol: str
    split: str
    targets_sha256: str
    data: str


@dataclass(frozen=True)
class Cell:
    """One number of a table: the mean over seeds of nats a token.

    ``delta`` is against the same weights as they were trained, at 1x on the same targets, in nats a token; None
    where there is no such control. ``interval`` holds its bounds, None where the NLL of single targets is not there
    or where all targets lie in one document. ``spread`` is the standard deviation over seeds, in nats; None for one.
    """

    group: Group
    comparison: Comparison
    length: int
    records: tuple[Record, ...]  # one a seed, computed ones first
    nats_per_token: float | None
    delta: float | None
    spread: float | None
    deltas: tuple[float, ...] = ()  # one a seed
    interval: Interval | None = None
    share: Share | None = None
    usable: int | None = None  # of the whole row: the largest length up to which nothing breaks
    usable_sure: int | None = None  # the same, up to which every verdict is "uses" or "survives"
    trained_long: bool = False  # of a row that only shows what a long training gains: no part of the table's family

    @property
    def ok(self) -> bool:
        return self.nats_per_token is not None

    @property
    def first(self) -> Record:
        return self.records[0]

    @property
    def computed(self) -> list[Record]:
        """Its records that have a number, by seed."""
        return [r for r in self.records if r.nats_per_token is not None]

    @property
    def is_control(self) -> bool:
        """The number that the changes of its row are against."""
        return self.first.as_trained and self.length == self.group.base_context

    @property
    def usable_undecided(self) -> bool:
        """Whether a verdict up to the usable context is undecided."""
        return self.usable != self.usable_sure

    @property
    def seeds(self) -> list[int]:
        """Those that have a number."""
        return sorted(r.seed for r in self.records if r.status == "ok")

    @property
    def verdict(self) -> str:
        """``uses``, ``survives``, ``breaks`` or ``undecided``; empty for the control and where there is no interval."""
        if self.interval is None or self.is_control:
            return ""
        return verdict_of(self.interval.family)

    @property
    def ppl(self) -> float | None:
        """exp of the mean nats a token."""
        return None if self.nats_per_token is None else perplexity(self.nats_per_token)

    @property
    def bpb(self) -> float | None:
        """Bits per byte of the targets."""
        if self.nats_per_token is None or not self.first.bytes:
            return None
        return bits_per_byte(self.nats_per_token * self.first.n_targets, self.first.bytes)

    def as_dict(self) -> dict[str, Any]:
        """For --format json and csv: the record's fields, those that differ between seeds as lists or aggregated."""
        computed = [r for r in self.records if r.status == "ok"] or list(self.records)
        share = self.share
        return {
            **as_json(self.first),
            **{name: [getattr(r, name) for r in computed] for name in PER_SEED},
            "cells": [r.key for r in computed],
            "seeds": self.seeds,
            "nats_per_token": self.nats_per_token,
            "spread": self.spread,
            "ppl": self.ppl,
            "bpb": self.bpb,
            "multiple": self.first.multiple,
            "delta": self.delta,
            "deltas": list(self.deltas),
            "interval": list(self.interval.family) if self.interval else None,
            "interval_alone": list(self.interval.alone) if self.interval else None,
            "verdict": self.verdict,
            "usable_context": self.usable,
            "usable_context_sure": self.usable_sure,
            "long_nats_per_token": share.long if share else None,
            "attainable": share.attainable if share else None,
            "share": share.share if share else None,
            "share_interval": list(share.interval) if share and share.interval else None,
            "seconds": fmean(r.seconds for r in computed),
            "tokens_per_second": fmean(r.tokens_per_second for r in computed),
            "peak_memory_bytes": max(r.peak_memory_bytes for r in computed),
        }


def verdict_of(interval: tuple[float, float]) -> str:
    """The first that fits, for the bounds of a change in nats a token."""
    low, high = interval
    if high < 0:
        return "uses"
    if high <= DELTA:
        return "survives"
    return "breaks" if low > DELTA else "undecided"


def group_of(record: Record) -> Group:
    """The row that a record belongs to."""
    return Group(
        record.label,
        record.scheme,
        record.extension,
        record.config_sha256,
        record.base_context,
        record.train_context,
        record.train_extension,
        record.dtype,
    )


def comparison_of(record: Record) -> Comparison:
    """The table that a record belongs to."""
    return Comparison(record.protocol, record.split, record.targets_sha256, record.data)


def aggregate(records: Iterable[Record], replicates: int = REPLICATES) -> list[Cell]:
    """One cell for each comparison, group and length, in the order in which they first appear.

    Intervals are simultaneous over all changes of a comparison.
    """
    found: dict[tuple[Comparison, Group, int], dict[int, Record]] = {}
    controls: dict[tuple[Comparison, str, str], Record] = {}  # by weights: a change is against the same ones
    for record in records:
        comparison = comparison_of(record)
        # The same seed trained twice under two names counts once, a computed one before one that failed.
        by_seed = found.setdefault((comparison, group_of(record), record.length), {})
        if record.seed not in by_seed or (by_seed[record.seed].status != "ok" and record.status == "ok"):
            by_seed[record.seed] = record
        if record.as_trained and record.length == record.base_context and record.nats_per_token is not None:
            controls[comparison, record.checkpoint_sha256, record.dtype] = record
    cells, against = [], []
    for (comparison, group, length), seeds in found.items():
        ordered = sorted(seeds.values(), key=lambda r: (r.status != "ok", r.seed))
        computed = [r for r in ordered if r.nats_per_token is not None]
        before = [c for r in computed if (c := controls.get((comparison, r.checkpoint_sha256, r.dtype))) is not None]
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
        against.append(tuple(before) if deltas else ())
    marked = _mark_trained_long(cells)
    return _with_usable(with_shares(_with_intervals(marked, against, replicates), controls, replicates))


def _mark_trained_long(cells: list[Cell]) -> list[Cell]:
    """Rows that never leave their own L, beside a row of the same recipe with a smaller one."""
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


def _with_intervals(cells: list[Cell], against: list[tuple[Record, ...]], replicates: int) -> list[Cell]:
    """All changes of a comparison together; the controls themselves change nothing."""
    out = list(cells)
    for comparison in dict.fromkeys(cell.comparison for cell in cells):
        judged = [
            (index, cell.computed, list(before))
            for index, (cell, before) in enumerate(zip(cells, against, strict=True))
            if cell.comparison == comparison and before and not (cell.is_control or cell.trained_long)
        ]
        sums = sums_of([record for _, after, before in judged for record in (*after, *before)])
        judged = [one for one in judged if sums.has(one[1]) and sums.has(one[2])]
        if not judged or not sums.speaks_of_others:
            continue
        changes = [sums.of(after) - sums.of(before) for _, after, before in judged]
        intervals = Replicates(sums.counts, changes, replicates).intervals()
        for (index, _, _), interval in zip(judged, intervals, strict=True):
            out[index] = replace(out[index], interval=interval)
    return out


def _with_usable(cells: list[Cell]) -> list[Cell]:
    """Usable context of each row: the largest evaluated ℓ ≥ L up to which nothing breaks and all was computed."""
    rows: dict[tuple[Comparison, Group], list[Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.comparison, cell.group), []).append(cell)
    found: dict[tuple[Comparison, Group], tuple[int | None, int | None]] = {}
    for key, row in rows.items():
        usable, sure, doubt = None, None, False
        for cell in sorted(row, key=lambda c: c.length):
            if cell.length < cell.group.base_context:
                continue
            if not cell.ok or cell.verdict == "breaks":
                break
            if not cell.verdict and not cell.is_control:
                usable, sure = None, None  # without an interval nobody knows
                break
            usable = cell.length
            doubt = doubt or cell.verdict == "undecided"
            sure = sure if doubt else usable
        found[key] = (usable, sure)
    return [
        replace(cell, usable=usable, usable_sure=sure)
        for cell in cells
        for usable, sure in [found[cell.comparison, cell.group]]
    ]
