"""The cells of a table as plain data. :mod:`posx.results.aggregate` makes them from records."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from posx.results.bootstrap import Interval
from posx.results.records import Record, as_json, bits_per_byte, perplexity

DELTA = 0.01  # δ in nats/token: smaller losses are tolerated
# Fields that differ between the seeds of a cell: lists in JSON and CSV, in the order of ``seeds``.
PER_SEED = ("run", "seed", "nats", "checkpoint_sha256")


@dataclass(frozen=True)
class Group:
    """What all numbers of a row share: everything but seed and length."""

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
    """What all numbers of a table share: the targets. Only numbers over the same targets are comparable."""

    protocol: str
    split: str
    targets_sha256: str
    data: str


@dataclass(frozen=True)
class Share:
    """The share of the gain from training at ℓ that a model has without that training; nats/token, and a fraction.

    ``attainable`` = nats(1x) − nats_long(ℓ) with its interval. ``long`` is the mean of the models trained at ℓ;
    ``long_gain`` is their own nats(L) − nats(ℓ), None where L was not evaluated. ``share`` is None unless the interval
    of ``attainable`` is above 0. ``seeds``: those with all three numbers.
    """

    long: float
    long_gain: float | None
    attainable: float
    attainable_interval: tuple[float, float] | None
    share: float | None
    interval: tuple[float, float] | None
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """One number of a table: the mean over seeds of nats/token.

    ``delta`` is the change in nats/token from the same weights at 1x, as trained, on the same targets; None without
    this control. ``interval`` has its bounds: None without the losses of single targets, or if all targets are in one
    document. ``spread`` is the standard deviation over seeds, in nats; None for one seed.
    """

    group: Group
    comparison: Comparison
    length: int
    records: tuple[Record, ...]  # one per seed, computed ones first
    nats_per_token: float | None
    delta: float | None
    spread: float | None
    deltas: tuple[float, ...] = ()  # one per seed
    interval: Interval | None = None
    share: Share | None = None
    usable: int | None = None  # of the whole row: the largest length up to which no verdict is "breaks"
    usable_sure: int | None = None  # the same, up to which every verdict is "uses" or "survives"
    trained_long: bool = False  # a row that serves only to compute the attainable gain, without simultaneous intervals

    @property
    def ok(self) -> bool:
        return self.nats_per_token is not None

    @property
    def first(self) -> Record:
        return self.records[0]

    @property
    def computed(self) -> list[Record]:
        """The records that have a number, by seed."""
        return [r for r in self.records if r.nats_per_token is not None]

    @property
    def is_control(self) -> bool:
        """Whether the changes of the row are relative to this number."""
        return self.first.as_trained and self.length == self.group.base_context

    @property
    def usable_undecided(self) -> bool:
        """Whether a verdict up to the usable context is undecided."""
        return self.usable != self.usable_sure

    @property
    def seeds(self) -> list[int]:
        """The seeds that have a number."""
        return sorted(r.seed for r in self.records if r.status == "ok")

    @property
    def verdict(self) -> str:
        """``uses``, ``survives``, ``breaks`` or ``undecided``; empty for the control and without an interval."""
        if self.interval is None or self.is_control:
            return ""
        return verdict_of(self.interval.family)

    @property
    def ppl(self) -> float | None:
        """exp of the mean nats/token."""
        return None if self.nats_per_token is None else perplexity(self.nats_per_token)

    @property
    def bpb(self) -> float | None:
        """Bits per byte of the targets."""
        if self.nats_per_token is None or not self.first.bytes:
            return None
        return bits_per_byte(self.nats_per_token * self.first.n_targets, self.first.bytes)

    def as_dict(self) -> dict[str, Any]:
        """The row in JSON and CSV: the record's fields; those that differ between seeds are lists, or aggregated."""
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
    """The verdict for the bounds of a change in nats/token."""
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


class Controls:
    """The record at 1x of each model: the same weights, targets and precision. Changes are relative to it."""

    def __init__(self, records: list[Record]):
        self._records = {
            self._key(record): record
            for record in records
            if record.as_trained and record.length == record.base_context and record.nats_per_token is not None
        }

    def of(self, record: Record) -> Record | None:
        """None if 1x was not evaluated or has no number."""
        return self._records.get(self._key(record))

    @staticmethod
    def _key(record: Record) -> tuple[Comparison, str, str]:
        return comparison_of(record), record.checkpoint_sha256, record.dtype
