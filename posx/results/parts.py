"""Sums over parts of a cell's targets: by available context, and by position in the document.

They are computed from the losses next to a record, or read from a bundle, which has them instead of the losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from posx.results.bundle_cells import bundled_curve
from posx.results.records import Record
from posx.results.sums import Losses, read_losses, sum_up

PLACES = 8  # parts by position


@dataclass(frozen=True)
class Part:
    """The targets from ``low`` up to the next part. Arrays [D]: their documents, and targets and float64 nats of each.

    ``x``: the mean position of the targets, or ``low`` for parts by context.
    """

    low: float
    x: float
    documents: np.ndarray
    counts: np.ndarray
    nats: np.ndarray


def bucket_edges(longest: int) -> np.ndarray:
    """1, 2, 3, 4, 6, 8, 12, 16, …: a bucket has the contexts from its edge to the next; int64, beyond ``longest``."""
    edges = [1]
    while edges[-1] <= longest:
        last = edges[-1]
        power = 1 << (last.bit_length() - 1)
        edges.append(last + 1 if last < 4 else power + power // 2 if last == power else 2 * power)
    return np.array(edges)


def octaves(longest: int) -> np.ndarray:
    """1, 2, 3, 5, 9, …: the edges of the coarser buckets 1, 2, 3–4, 5–8, … in tables."""
    return np.array([1, *((1 << k) + 1 for k in range(longest.bit_length() + 1))])


def parts_of(record: Record, view: str) -> list[Part] | None:
    """``view`` is context or place. None if neither losses nor parts are stored. Raises PosxError."""
    rows = bundled_curve(record.path, view) if record.path else None
    if rows is not None:
        _, starts = np.unique(rows["low"], return_index=True)
        ends = [*starts[1:], len(rows["low"])]
        return [
            Part(
                float(rows["low"][start]),
                float(rows["x"][start]),
                *(rows[name][start:end] for name in ("document", "targets", "nats")),
            )
            for start, end in zip(starts, ends, strict=True)
        ]
    losses = read_losses(record)
    if losses is None:
        return None
    return _by_context(losses, record.length) if view == "context" else _by_place(losses)


def merged(parts: list[Part]) -> Part:
    """Several consecutive parts, at least one, as one part."""
    if len(parts) == 1:
        return parts[0]
    documents, where = np.unique(np.concatenate([p.documents for p in parts]), return_inverse=True)
    counts = np.bincount(where, weights=np.concatenate([p.counts for p in parts])).astype(np.int64)
    nats = np.bincount(where, weights=np.concatenate([p.nats for p in parts]))
    return Part(parts[0].low, parts[0].x, documents, counts, nats)


def _by_context(losses: Losses, longest: int) -> list[Part]:
    """Parts that are fine enough for both buckets and octaves."""
    edges = np.union1d(bucket_edges(longest), octaves(longest))
    masks = ((low, (losses.context >= low) & (losses.context < high)) for low, high in pairwise(edges.tolist()))
    return [_part(losses, mask, float(low), float(low)) for low, mask in masks if mask.any()]


def _by_place(losses: Losses) -> list[Part]:
    """Parts with equal numbers of targets."""
    position = losses.position
    edges = np.unique(np.quantile(position, np.linspace(0, 1, PLACES + 1)))
    parts = []
    for low, high in pairwise(edges.tolist()):
        below = position <= high if high == edges[-1] else position < high
        mask = (position >= low) & below
        if mask.any():
            parts.append(_part(losses, mask, low, float(np.mean(position[mask]))))
    return parts


def _part(losses: Losses, mask: np.ndarray, low: float, x: float) -> Part:
    sums = sum_up(losses.document[mask], losses.nll[mask])
    return Part(low, x, sums.documents, sums.counts, sums.nats)
