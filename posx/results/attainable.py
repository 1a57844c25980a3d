"""The attainable gain: the gain from training at a longer length, and the share that a model reaches without it."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import numpy as np

from posx.results.bootstrap import Replicates
from posx.results.cells import Cell, Controls, Share
from posx.results.records import nats_of
from posx.results.sums import sums_of


def with_shares(cells: list[Cell], controls: Controls, replicates: int) -> list[Cell]:
    """The cells with their share of the attainable gain, if a model of the same recipe was trained at their length."""
    long = {
        (cell.comparison, cell.first.recipe_sha256, cell.group.dtype, cell.length): cell
        for cell in cells
        if cell.is_control and cell.ok
    }
    at = {(cell.comparison, cell.group, cell.length): cell for cell in cells}
    out = []
    for cell in cells:
        control = long.get((cell.comparison, cell.first.recipe_sha256, cell.group.dtype, cell.length))
        if control is None or not cell.ok or cell.group.base_context >= cell.length:
            out.append(cell)
            continue
        own = at.get((cell.comparison, control.group, cell.group.base_context))
        out.append(replace(cell, share=_share(cell, control, own, controls, replicates)))
    return out


def _share(
    cell: Cell,
    control: Cell,
    control_short: Cell | None,
    controls: Controls,
    replicates: int,
) -> Share | None:
    """``control`` was trained at the cell's length; ``control_short`` is the same model at the cell's L."""
    longs = {r.seed: r for r in control.computed}
    triples = [
        (before, r, longs[r.seed]) for r in cell.computed if r.seed in longs and (before := controls.of(r)) is not None
    ]
    if not triples:
        return None
    gained = fmean(nats_of(before) - nats_of(after) for before, after, _ in triples)
    attainable = fmean(nats_of(before) - nats_of(top) for before, _, top in triples)
    shorts = {r.seed: r for r in control_short.computed} if control_short else {}
    own = [nats_of(shorts[top.seed]) - nats_of(top) for _, _, top in triples if top.seed in shorts]
    long = fmean(nats_of(top) for _, _, top in triples)
    share, attainable_interval, interval = None, None, None
    befores, afters, tops = (list(part) for part in zip(*triples, strict=True))
    sums = sums_of([*befores, *afters, *tops])
    if all(map(sums.has, (befores, afters, tops))) and sums.speaks_of_others:
        first = sums.of(befores)
        parts = [first - sums.of(afters), first - sums.of(tops)]
        both = Replicates(sums.counts, parts, replicates, together=True)
        attainable_interval = both.intervals()[1].alone
        if attainable_interval[0] > 0:
            share = gained / attainable
            low, high = np.quantile(
                (both.means[0] + both.errors[:, 0]) / (both.means[1] + both.errors[:, 1]), [0.025, 0.975]
            )
            interval = (float(low), float(high))
    return Share(
        long,
        fmean(own) if own else None,
        attainable,
        attainable_interval,
        share,
        interval,
        tuple(r.seed for _, r, _ in triples),
    )
