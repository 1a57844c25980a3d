"""Simulated tables with crossed effects of seed, document and noise, and how often their intervals hold the truth.

``x[cell, seed, document] = truth + A[cell, seed] + B[cell, document] + noise``: a seed moves all documents of a cell, a
document moves all seeds of a cell. What posx is given are the sums x · counts[document].
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from posx.results.aggregate import verdict_of
from posx.results.bootstrap import Replicates

SIMULATIONS = 2000
CELLS = 10
# How many replicates a simulated table draws. The 95 % quantile of R draws is itself too short by a hair: it holds
# (0.95·(R − 1) + 1)/(R + 1) of them, 94.91 % at R = 1000 and 94.99 % at the 10,000 of posx. So 1000 makes the
# requirements harder by a tenth of a per cent, a fifth of what 2,000 simulations can tell (0.49 %), and lets all
# of this file pass in about a minute of one core. Fewer would cost more coverage than a failure should mean.
REPLICATES = 1000


@dataclass(frozen=True)
class Setting:
    """Standard deviations of the effects, in units of one another; the interval knows no other scale."""

    seeds: int
    documents: int
    by_seed: float
    by_document: float
    noise: float = 0.5
    shared: bool = False  # whether all cells move together, as lengths of one model do
    uneven: bool = False  # whether documents hold unlike numbers of targets

    def draw(self, random: np.random.Generator, cells: int = CELLS) -> tuple[np.ndarray, np.ndarray]:
        """Counts [documents] and differences [cells, seeds, documents] of which the truth is 0."""
        counts = random.integers(4, 65, self.documents) if self.uneven else np.full(self.documents, 16)
        apart = 1 if self.shared else cells
        seed = self.by_seed * random.standard_normal((apart, self.seeds, 1))
        document = self.by_document * random.standard_normal((apart, 1, self.documents))
        noise = self.noise * random.standard_normal((cells, self.seeds, self.documents))
        return counts, seed + document + noise


@dataclass(frozen=True)
class Outcome:
    """Shares of the simulated tables, or of all their cells."""

    first: float  # the single interval of the first cell holds the truth
    alone: float  # single intervals, over all cells
    family: float  # all simultaneous intervals of a table hold it
    uses: float  # cells of which the verdict says so
    any_uses: float  # tables in which one does


@functools.cache
def simulate(setting: Setting, cells: int = CELLS, simulations: int = SIMULATIONS) -> Outcome:
    """Once for all tests that ask for it. The truth is 0: nothing is gained."""
    random = np.random.default_rng([20, setting.seeds, setting.documents, int(setting.by_seed > setting.by_document)])
    alone = np.empty((simulations, cells), dtype=bool)
    family, uses = alone.copy(), alone.copy()
    for number in range(simulations):
        counts, x = setting.draw(random, cells)
        found = Replicates(counts, list(x * counts), REPLICATES, seed=number).intervals()
        alone[number] = [i.alone[0] <= 0 <= i.alone[1] for i in found]
        family[number] = [i.family[0] <= 0 <= i.family[1] for i in found]
        uses[number] = [verdict_of(i.family) == "uses" for i in found]
    return Outcome(
        float(alone[:, 0].mean()),
        float(alone.mean()),
        float(family.all(axis=1).mean()),
        float(uses.mean()),
        float(uses.any(axis=1).mean()),
    )


# "Dominate": of the variance of the mean, ten parts in eleven or more. With both effects at 1, the seeds' part is
# 1/3, 1/5, 1/10 and the documents' 1/30, 1/40, 1/40; with a seed effect of 0.1 it is a tenth of the documents' or less.
CROSSED = {
    "3x30 seeds": Setting(3, 30, by_seed=1.0, by_document=1.0),
    "3x30 documents": Setting(3, 30, by_seed=0.1, by_document=1.0, shared=True),
    "5x40 seeds": Setting(5, 40, by_seed=1.0, by_document=0.8, shared=True),
    "5x40 documents": Setting(5, 40, by_seed=0.1, by_document=1.0, uneven=True),
    "10x40 seeds": Setting(10, 40, by_seed=1.0, by_document=0.6, uneven=True),
    "10x40 documents": Setting(10, 40, by_seed=0.1, by_document=1.0, shared=True),
}
