"""Curves by fine-tuning steps: the change from the first model at 1x. Runs no model."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from posx.results.bootstrap import Interval, Replicates
from posx.results.cells import Cell, Comparison
from posx.results.curves import REPLICATES, Point
from posx.results.records import Record, nats_of
from posx.results.sums import sums_of


@dataclass(frozen=True)
class FinetuneCurve:
    """Fine-tunes of one model with one extension: the change from the model at 1x by steps, at one length."""

    name: str
    comparison: Comparison
    length: int
    train_context: int
    extension: str
    recipe: str  # a description; empty without a recipe
    points: list[Point]


def finetunes(cells: list[Cell]) -> list[FinetuneCurve]:
    """A curve for each first model, extension, recipe, training context and length.

    Each point is nats(fine-tune at ℓ) − nats(first model at 1x), over the seeds of both, on the same targets. The point
    at 0 steps is the extension without fine-tuning. With dropped positions there is none: that model is not evaluated
    before it is fine-tuned.
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
            # Extensions by their effect in the fine-tune, not by name: pi at 4x is pi(s=4) there.
            acts = cell.first.extension_params.get("trained", {})
            dropped = cell.first.train_recipe == "drop"
            there = [] if dropped else plain.get((cell.comparison, cell.first.parent_sha256, cell.length), [])
            untrained = next((c for c in there if c.first.extension_params == acts), None)
            found[key] = [p] if untrained is not None and (p := against(untrained, first, 0)) is not None else []
        point = against(cell, first, cell.first.train_steps)
        if point is not None:
            found[key].append(point)
    return [FinetuneCurve(names[key], *key[1:], points) for key, points in found.items() if points]


def against(cell: Cell, first: Cell, x: float) -> Point | None:
    """nats(cell) − nats(first), paired by seed; None without a common seed."""
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
