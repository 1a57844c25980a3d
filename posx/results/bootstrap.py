"""The crossed bootstrap: how sure is a difference, when the same documents are seen by all seeds and all cells?

A *quantity* is a mean of differences in nats a token: over seeds, of sums over documents, divided once by the targets.
Its error has a part of the documents and a part of the seeds.

* **Documents.** A replicate draws the documents once, with replacement, for all quantities and seeds together, and
  divides the sums again by the counts. What it yields is widened by √(D/(D−1)) and studentised with D − 1 degrees of
  freedom, where D = (Σn)²/Σn² counts documents by what they weigh.
* **Seeds.** Three or five seeds drawn with replacement say next to nothing about their tails. In their place a
  replicate draws Student's t with (seeds − 1) degrees of freedom, times the standard error of the mean over seeds. Each
  quantity is drawn on its own: a handful of seeds cannot show that two of them move together.

A single interval is the 95 % quantile of the replicates' absolute error. Simultaneous ones are max-t: the quantile of
the largest error of a replicate, each in units of its own scale. One seed leaves the first part alone: such an interval
speaks of other documents, not of another training.

Sources: crossed ("pigeonhole") bootstrap, Owen 2007, Annals of Applied Statistics 1:386; max-t, Westfall and Young
1993, "Resampling-Based Multiple Testing"; a sum of two studentised parts by simulation is the generalised confidence
interval of Weerahandi 1993, JASA 88:899. docs/protocol.md says how often these intervals hold the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posx.utils.streams import stream

REPLICATES = 10_000
COVERAGE = 0.95
FEW_DOCUMENTS = 20
FEWEST_DOCUMENTS = 2.0  # of equal weight: fewer give no interval
ROWS = 4_000_000  # weights held at a time: replicates × documents


@dataclass(frozen=True)
class Interval:
    """Bounds of a quantity in nats a token: ``alone`` for itself, ``family`` for all that were asked together."""

    mean: float
    alone: tuple[float, float]
    family: tuple[float, float]


class Replicates:
    """Errors of quantities over the same documents, replicate by replicate; a function of its arguments alone.

    ``counts`` [D]: targets of each document, all above 0, D ≥ 2. ``sums``: for each quantity an array [seeds, D] of
    differences in nats, summed over a document's targets. Quantities may have unlike numbers of seeds. ``together``:
    the quantities are parts of one, such as a ratio; they share their seeds, and move as those moved.
    """

    def __init__(
        self,
        counts: np.ndarray,
        sums: Sequence[np.ndarray],
        size: int = REPLICATES,
        seed: int = 0,
        together: bool = False,
    ):
        self.counts = np.asarray(counts, dtype=np.float64)
        self.size, self.random = size, stream("bootstrap", seed)
        total = self.counts.sum()
        per_seed = [np.asarray(s, dtype=np.float64).sum(axis=1) / total for s in sums]
        self.means = np.array([values.mean() for values in per_seed])
        self.seeds = np.array([len(values) for values in per_seed])
        self.seed_error = np.array([standard_error(values) for values in per_seed])
        averaged = np.stack([np.mean(s, axis=0, dtype=np.float64) for s in sums], axis=1)
        self.documents = self._documents(averaged, together)
        self.drawn_seeds = self._seeds_together(np.stack(per_seed, axis=1)) if together else self._seeds()
        self.errors = self.documents + self.drawn_seeds

    def _documents(self, sums: np.ndarray, together: bool) -> np.ndarray:
        """[replicates, quantities] from the sums over documents [D, quantities], averaged over seeds."""
        number, effective = len(self.counts), effective_number(self.counts)
        parts = []
        step = max(1, ROWS // number)
        for start in range(0, self.size, step):
            rows = min(step, self.size - start)
            drawn = self.random.multinomial(number, np.full(number, 1 / number), size=rows).astype(np.float64)
            parts.append((drawn @ sums) / (drawn @ self.counts)[:, None] - self.means)
        wide = np.sqrt(effective / max(effective - 1, 1e-9))
        return np.concatenate(parts) * wide * self._studentise(effective - 1, 1 if together else sums.shape[1])

    def _seeds(self) -> np.ndarray:
        """[replicates, quantities]."""
        out = np.zeros((self.size, len(self.means)))
        for number in np.unique(self.seeds[self.seeds > 1]):
            which = np.flatnonzero((self.seeds == number) & (self.seed_error > 0))
            out[:, which] = self.random.standard_t(number - 1, size=(self.size, len(which))) * self.seed_error[which]
        return out

    def _seeds_together(self, values: np.ndarray) -> np.ndarray:
        """[replicates, quantities] with the covariance of the means of ``values`` [seeds, quantities]."""
        number = len(values)
        if number == 1:
            return np.zeros((self.size, values.shape[1]))
        apart = (values - values.mean(axis=0)) / np.sqrt(number * (number - 1))
        return (self.random.standard_normal((self.size, number)) @ apart) * self._studentise(number - 1, 1)

    def _studentise(self, freedom: float, width: int) -> np.ndarray:
        """Factors √(ν/χ²_ν) that turn a normal variate into Student's t."""
        freedom = max(1.0, freedom)  # below one degree no moment is left, and χ² is 0 to the computer
        return np.sqrt(freedom / self.random.chisquare(freedom, size=(self.size, width)))

    def intervals(self, coverage: float = COVERAGE) -> list[Interval]:
        """One for each quantity, in order."""
        alone = np.quantile(np.abs(self.errors), coverage, axis=0)
        scale = np.hypot(_family_scale(self.documents, coverage), _family_scale(self.drawn_seeds, coverage))
        moving = scale > 0
        largest = np.max(np.abs(self.errors[:, moving]) / scale[moving], axis=1, initial=0.0)
        family = np.maximum(alone, scale * np.quantile(largest, coverage))
        return [
            Interval(float(m), (float(m - a), float(m + a)), (float(m - f), float(m + f)))
            for m, a, f in zip(self.means, alone, family, strict=True)
        ]


def effective_number(counts: np.ndarray) -> float:
    """D = (Σn)²/Σn²: as many documents of equal weight would say as much."""
    return float(np.sum(counts) ** 2 / np.square(counts.astype(np.float64)).sum())


def standard_error(values: np.ndarray) -> float:
    """Of a mean over seeds; 0 for one seed, which says nothing about it."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _family_scale(errors: np.ndarray, coverage: float) -> np.ndarray:
    """Half-widths [quantities] that would hold all these errors together: each its own deviation times one factor."""
    spread = np.median(np.abs(errors), axis=0)  # robust: t with two degrees of freedom has no variance
    moving = spread > 0
    if not moving.any():
        return spread
    return spread * np.quantile(np.max(np.abs(errors[:, moving]) / spread[moving], axis=1), coverage)
