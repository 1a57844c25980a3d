"""From records to cells: aggregated over seeds, in nats, before anything is exponentiated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from posx.records import Record, bits_per_byte, perplexity


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

    ``delta`` is against the same weights at 1x without an extension, on the same targets, in nats a token; None
    where there is no such control. ``spread`` is the standard deviation over seeds, in nats; None for one seed.
    """

    group: Group
    comparison: Comparison
    length: int
    records: tuple[Record, ...]  # one a seed, computed ones first
    nats_per_token: float | None
    delta: float | None
    spread: float | None

    @property
    def ok(self) -> bool:
        return self.nats_per_token is not None

    @property
    def first(self) -> Record:
        return self.records[0]

    @property
    def seeds(self) -> list[int]:
        """Those that have a number."""
        return sorted(r.seed for r in self.records if r.status == "ok")

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
        """For --format json and csv: the record's fields, those that differ between seeds aggregated."""
        shared = asdict(self.first)
        for per_seed in (
            "run",
            "seed",
            "nats",
            "checkpoint_sha256",
            "seconds",
            "tokens_per_second",
            "peak_memory_bytes",
        ):
            shared.pop(per_seed)
        computed = [r for r in self.records if r.status == "ok"] or list(self.records)
        return {
            **shared,
            "runs": [r.run for r in self.records],
            "seeds": self.seeds,
            "nats_per_token": self.nats_per_token,
            "spread": self.spread,
            "ppl": self.ppl,
            "bpb": self.bpb,
            "multiple": self.first.multiple,
            "delta": self.delta,
            "seconds": fmean(r.seconds for r in computed),
            "tokens_per_second": fmean(r.tokens_per_second for r in computed),
            "peak_memory_bytes": max(r.peak_memory_bytes for r in computed),
        }


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


def aggregate(records: Iterable[Record]) -> list[Cell]:
    """One cell for each comparison, group and length, in the order in which they first appear."""
    found: dict[tuple[Comparison, Group, int], dict[int, Record]] = {}
    controls: dict[tuple[Comparison, str, str], float] = {}  # by weights: a change is against the same ones
    for record in records:
        comparison, nats = comparison_of(record), record.nats_per_token
        # The same seed trained twice under two names counts once, a computed one before one that failed.
        by_seed = found.setdefault((comparison, group_of(record), record.length), {})
        if record.seed not in by_seed or (by_seed[record.seed].status != "ok" and record.status == "ok"):
            by_seed[record.seed] = record
        if record.extension == "none" and record.length == record.base_context and nats is not None:
            controls[comparison, record.checkpoint_sha256, record.dtype] = nats
    cells = []
    for (comparison, group, length), seeds in found.items():
        ordered = sorted(seeds.values(), key=lambda r: (r.status != "ok", r.seed))
        computed = [(r, r.nats_per_token) for r in ordered if r.nats_per_token is not None]
        values = [value for _, value in computed]
        before = [controls.get((comparison, r.checkpoint_sha256, r.dtype)) for r, _ in computed]
        deltas = [value - control for value, control in zip(values, before, strict=True) if control is not None]
        cells.append(
            Cell(
                group,
                comparison,
                length,
                tuple(ordered),
                fmean(values) if values else None,
                fmean(deltas) if deltas and len(deltas) == len(values) else None,
                stdev(values) if len(values) > 1 else None,
            )
        )
    return cells
