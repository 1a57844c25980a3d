"""Lines with intervals from the NLL that evaluations kept: by context, by place in the document, by document.

Nothing here runs a model. Intervals are crossed bootstraps of one point each (:mod:`posx.results.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import numpy as np

from posx.results.aggregate import Cell, Comparison
from posx.results.bootstrap import Interval, Replicates
from posx.results.records import Record, nats_of
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


# ---------------------------------------------------------------- fine-tuning


@dataclass(frozen=True)
class Curve:
    """Fine-tunes of one model with one extension: the change against its own 1x, over steps, at one length."""

    name: str
    comparison: Comparison
    length: int
    train_context: int
    extension: str
    recipe: str  # in words; empty without one
    points: list[Point]


def finetunes(cells: list[Cell]) -> list[Curve]:
    """A curve for each first model, extension, recipe, training context and length; its point at 0 is the extension
    untrained. A model whose positions are dropped has none: without the training nobody evaluated it.

    Each point is nats(fine-tune at ℓ) − nats(first model at 1x), over the seeds of both, on the same targets.
    """
    tuned = [c for c in cells if c.first.parent_sha256 and c.first.as_trained and c.ok]
    firsts = {(c.comparison, c.group.config_sha256): c for c in cells if c.is_control and not c.first.parent_sha256}
    plain: dict[tuple[Comparison, str, int], list[Cell]] = {}
    for cell in cells:
        plain.setdefault((cell.comparison, cell.group.config_sha256, cell.length), []).append(cell)
    found: dict[tuple[str, Comparison, int, int, str, str], list[Point]] = {}
    names: dict[tuple[str, Comparison, int, int, str, str], str] = {}
    for cell in sorted(tuned, key=lambda c: c.first.train_steps):
        first = firsts.get((cell.comparison, cell.first.parent_sha256))
        if first is None:
            continue
        group = cell.group
        how = group.train_context, group.train_extension, cell.first.recipe
        key = (cell.first.parent_sha256, cell.comparison, cell.length, *how)
        if key not in found:
            names[key] = first.group.label
            # The extension as it acts in the fine-tune, whatever it is called: pi at 4x is pi(s=4) there.
            acts = cell.first.extension_params.get("trained", {})
            dropped = cell.first.train_recipe == "drop"
            there = [] if dropped else plain.get((cell.comparison, cell.first.parent_sha256, cell.length), [])
            untrained = next((c for c in there if c.first.extension_params == acts), None)
            found[key] = [p] if untrained is not None and (p := against(untrained, first, 0)) is not None else []
        point = against(cell, first, cell.first.train_steps)
        if point is not None:
            found[key].append(point)
    return [Curve(names[key], *key[1:], points) for key, points in found.items() if points]


def against(cell: Cell, first: Cell, x: float) -> Point | None:
    """nats(cell) − nats(first), paired by seed."""
    before: dict[int, Record] = {r.seed: r for r in first.computed}
    pairs = [(r, before[r.seed]) for r in cell.computed if r.seed in before]
    if not pairs:
        return None
    mean = fmean(nats_of(a) - nats_of(b) for a, b in pairs)
    after, first_records = (list(side) for side in zip(*pairs, strict=True))
    sums = sums_of([*after, *first_records])
    if not (sums.has(after) and sums.has(first_records) and sums.speaks_of_others):
        return Point(x, mean, None)
    change = sums.of(after) - sums.of(first_records)
    interval: Interval = Replicates(sums.counts, [change], REPLICATES).intervals()[0]
    return Point(x, mean, interval.alone)
