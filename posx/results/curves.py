"""Lines with intervals from the NLL of each target: by context, by position in the document, by document.

Nothing here runs a model. Intervals are crossed bootstraps of one point each (:mod:`posx.results.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from posx.results.bootstrap import Replicates
from posx.results.cells import Cell
from posx.results.records import Record
from posx.results.sums import Losses, read_losses, sums_of

REPLICATES = 2000  # of each point: a line has many, and is read by eye
PLACES = 8  # parts of a document's length that are told apart


@dataclass(frozen=True)
class Point:
    """A mean in nats a token with its own 95 % interval, None where one document or no target NLL stands behind it."""

    x: float
    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Line:
    """Points of one row of a table. ``cell`` is any cell of that row."""

    cell: Cell
    points: list[Point]


def bucket_edges(longest: int) -> np.ndarray:
    """1, 2, 3, 4, 6, 8, 12, 16, …: each bucket holds contexts from its edge up to the next; int64, past ``longest``."""
    edges = [1]
    while edges[-1] <= longest:
        last = edges[-1]
        power = 1 << (last.bit_length() - 1)
        edges.append(last + 1 if last < 4 else power + power // 2 if last == power else 2 * power)
    return np.array(edges)


def octaves(longest: int) -> np.ndarray:
    """1, 2, 3, 5, 9, …: the coarser buckets 1, 2, 3–4, 5–8 and so on, of a table."""
    return np.array([1, *((1 << k) + 1 for k in range(longest.bit_length() + 1))])


def by_context(cell: Cell, edges: np.ndarray | None = None) -> Line:
    """Nats a token over the tokens of context that were there; x is the geometric middle of a bucket.

    ``cell`` was evaluated under the protocol curve. ``edges``: as :func:`bucket_edges`, its default.
    """
    edges = bucket_edges(cell.length) if edges is None else edges
    kept = [losses for record in cell.computed if (losses := read_losses(record)) is not None]
    points = []
    for low, high in pairwise(edges.tolist()):
        point = _point(kept, _with_context(low, high))
        if point is not None:
            points.append(Point(float(np.sqrt(low * (min(high, cell.length + 1) - 1))), *point))
    return Line(cell, points)


def by_place(cell: Cell, control: Cell) -> Line:
    """The change against 1x over the position in the document, in parts that hold equally many targets."""
    pairs = _paired(cell, control)
    if not pairs:
        return Line(cell, [])
    changes = [_minus(a, b) for a, b in pairs]
    edges = np.unique(np.quantile(changes[0].position, np.linspace(0, 1, PLACES + 1)))
    points = []
    for low, high in pairwise(edges.tolist()):
        last = high == edges[-1]
        inside = _between(low, high, last)
        point = _point(changes, inside)
        if point is not None:
            points.append(Point(float(np.mean(changes[0].position[inside(changes[0])])), *point))
    return Line(cell, points)


def by_each_document(cell: Cell, control: Cell) -> Line:
    """The change against 1x of each document, from the largest gain to the largest loss; the mean over seeds.

    A document is one draw: its interval is the range over seeds, None for one seed.
    """
    pairs = _same_weights(cell, control)
    if not pairs:
        return Line(cell, [])
    after, before = (list(side) for side in zip(*pairs, strict=True))
    sums = sums_of([*after, *before])
    if not (sums.has(after) and sums.has(before)):
        return Line(cell, [])
    number = len(pairs)
    changes = (sums.of(after) - sums.of(before)) / sums.counts
    order = np.argsort(changes.mean(axis=0))
    points = []
    for place, document in enumerate(order, 1):
        values = changes[:, document]
        spread = (float(values.min()), float(values.max())) if number > 1 else None
        points.append(Point(place, float(values.mean()), spread))
    return Line(cell, points)


def _with_context(low: int, high: int) -> Callable[[Losses], np.ndarray]:
    return lambda losses: (losses.context >= low) & (losses.context < high)


def _between(low: float, high: float, last: bool) -> Callable[[Losses], np.ndarray]:
    def inside(losses: Losses) -> np.ndarray:
        below = losses.position <= high if last else losses.position < high
        return (losses.position >= low) & below

    return inside


def _same_weights(cell: Cell, control: Cell) -> list[tuple[Record, Record]]:
    """Each seed's record beside that of its own weights at 1x; seeds that lack one are left out."""
    controls = {record.checkpoint_sha256: record for record in control.computed}
    return [(r, controls[r.checkpoint_sha256]) for r in cell.computed if r.checkpoint_sha256 in controls]


def _paired(cell: Cell, control: Cell) -> list[tuple[Losses, Losses]]:
    found = [(read_losses(after), read_losses(before)) for after, before in _same_weights(cell, control)]
    kept = [(after, before) for after, before in found if after is not None and before is not None]
    return kept if len(kept) == len(found) else []


def _minus(a: Losses, b: Losses) -> Losses:
    """Differences target by target; both are in the order of the text."""
    return Losses(a.document, a.position, a.context, a.nll - b.nll)


def _point(
    seeds: list[Losses], inside: Callable[[Losses], np.ndarray]
) -> tuple[float, tuple[float, float] | None] | None:
    """Mean and interval over the targets that are ``inside``; None where there is none."""
    if not seeds:
        return None
    mask = inside(seeds[0])
    if not mask.any():
        return None
    documents, where, counts = np.unique(seeds[0].document[mask], return_inverse=True, return_counts=True)
    sums = np.stack(
        [np.bincount(where, weights=s.nll[mask].astype(np.float64), minlength=len(documents)) for s in seeds]
    )
    if len(documents) < 2:
        return float(sums.sum() / counts.sum() / len(seeds)), None
    (interval,) = Replicates(counts, [sums], REPLICATES).intervals()
    return interval.mean, interval.alone
