"""Lines with intervals from sums over parts of the targets: by context, by position in the document, by document.

Nothing here runs a model. Each point has its own crossed bootstrap (:mod:`posx.results.bootstrap`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from posx.results.bootstrap import Replicates
from posx.results.cells import Cell
from posx.results.parts import Part, bucket_edges, merged, parts_of
from posx.results.records import Record
from posx.results.sums import sums_of

REPLICATES = 2000  # per point: a line has many points, and is read by eye


@dataclass(frozen=True)
class Point:
    """A mean in nats/token with its own 95% interval; None with one document, or without losses of single targets."""

    x: float
    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Line:
    """Points of one row of a table. ``cell`` is any cell of that row."""

    cell: Cell
    points: list[Point]


def by_context(cell: Cell, edges: np.ndarray | None = None) -> Line:
    """Nats/token by available context; x is the geometric mean of a bucket's ends.

    ``cell`` was evaluated with the protocol curve. ``edges``: bucket_edges, the default, or octaves.
    """
    edges = bucket_edges(cell.length) if edges is None else edges
    kept = [parts for record in cell.computed if (parts := parts_of(record, "context")) is not None]
    points = []
    for low, high in pairwise(edges.tolist()):
        inside = [[part for part in parts if low <= part.low < high] for parts in kept]
        if inside and all(inside):
            x = float(np.sqrt(low * (min(high, cell.length + 1) - 1)))
            points.append(_point(x, [merged(parts) for parts in inside]))
    return Line(cell, points)


def by_place(cell: Cell, control: Cell) -> Line:
    """The change from 1x by position in the document, in parts with equal numbers of targets."""
    pairs = _paired(cell, control)
    if not pairs:
        return Line(cell, [])
    changes = [[_minus(a, b) for a, b in zip(*pair, strict=True)] for pair in pairs]
    return Line(cell, [_point(seeds[0].x, list(seeds)) for seeds in zip(*changes, strict=True)])


def by_each_document(cell: Cell, control: Cell) -> Line:
    """The change from 1x of each document, sorted from the largest gain to the largest loss; the mean over seeds.

    A document is one draw, so its interval is the range over seeds; None for one seed.
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


def _same_weights(cell: Cell, control: Cell) -> list[tuple[Record, Record]]:
    """The record of each seed with that of the same weights at 1x; seeds without both are left out."""
    controls = {record.checkpoint_sha256: record for record in control.computed}
    return [(r, controls[r.checkpoint_sha256]) for r in cell.computed if r.checkpoint_sha256 in controls]


def _paired(cell: Cell, control: Cell) -> list[tuple[list[Part], list[Part]]]:
    found = [(parts_of(after, "place"), parts_of(before, "place")) for after, before in _same_weights(cell, control)]
    kept = [(after, before) for after, before in found if after is not None and before is not None]
    return kept if len(kept) == len(found) else []


def _minus(a: Part, b: Part) -> Part:
    """The difference of two parts over the same targets."""
    return Part(a.low, a.x, a.documents, a.counts, a.nats - b.nats)


def _point(x: float, seeds: list[Part]) -> Point:
    """Mean and interval over the targets of a part, the same for each seed."""
    counts, sums = seeds[0].counts, np.stack([part.nats for part in seeds])
    if len(counts) < 2:
        return Point(x, float(sums.sum() / counts.sum() / len(seeds)), None)
    (interval,) = Replicates(counts, [sums], REPLICATES).intervals()
    return Point(x, interval.mean, interval.alone)
