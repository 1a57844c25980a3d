"""The crossed bootstrap: intervals of differences if all seeds and cells are scored on the same documents.

A *quantity* is a mean difference in nats/token: a mean over seeds of sums over documents, divided once by the number of
targets. Its error has a component from documents and a component from seeds.

* **Documents.** A replicate resamples the documents once, with replacement, for all quantities and seeds together, and
  divides the sums by the counts. The deviation is scaled by √(D/(D−1)) and studentised with D − 1 degrees of freedom,
  where D = (Σn)²/Σn² is the effective number of documents.
* **Seeds.** Resampling three or five seeds does not estimate their tails. Instead, a replicate draws Student's t with
  (seeds − 1) degrees of freedom, times the standard error of the mean over seeds. Quantities are drawn independently:
  a few seeds cannot show a correlation between them.

A single interval is the 95% quantile of the replicates' absolute errors. Simultaneous intervals are max-t: the quantile
of the largest error of a replicate, each in units of its own scale. With one seed there is only the first component:
the interval covers document sampling, not training variance.

Sources: crossed ("pigeonhole") bootstrap, Owen 2007, Annals of Applied Statistics 1:386; max-t, Westfall and Young
1993, "Resampling-Based Multiple Testing"; a sum of two studentised parts by simulation is the generalised confidence
interval of Weerahandi 1993, JASA 88:899. docs/protocol.md reports the coverage of these intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posx.utils.streams import stream

REPLICATES = 10_000
COVERAGE = 0.95
FEW_DOCUMENTS = 20
FEWEST_DOCUMENTS = 2.0  # effective documents; with fewer there is no interval
ROWS = 4_000_000  # weights held at a time: replicates × documents


@dataclass(frozen=True)
class Interval:
    """Bounds of a quantity in nats/token: ``alone`` is its own interval, ``family`` the simultaneous one."""

    mean: float
    alone: tuple[float, float]
    family: tuple[float, float]


class Replicates:
    """Errors of quantities over the same documents, by replicate; a function of the arguments alone.

    ``counts`` [D]: targets of each document, all above 0, D ≥ 2. ``sums``: for each quantity an array [seeds, D] of
    differences in nats, summed over a document's targets. Quantities may have different numbers of seeds. ``together``:
    the quantities are parts of one, such as a ratio; they share their seeds and are drawn with their covariance.
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
        """Factors √(ν/χ²_ν), which turn a normal variate into Student's t."""
        freedom = max(1.0, freedom)  # below one degree of freedom there are no moments, and χ² underflows to 0
        return np.sqrt(freedom / self.random.chisquare(freedom, size=(self.size, width)))

    def intervals(self, coverage: float = COVERAGE) -> list[Interval]:
        """The interval of each quantity, in order."""
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
    """The effective number of documents, D = (Σn)²/Σn²."""
    return float(np.sum(counts) ** 2 / np.square(counts.astype(np.float64)).sum())


def standard_error(values: np.ndarray) -> float:
    """The standard error of a mean over seeds; 0 for one seed."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _family_scale(errors: np.ndarray, coverage: float) -> np.ndarray:
    """Simultaneous half-widths [quantities]: the deviation of each quantity times a common factor."""
    spread = np.median(np.abs(errors), axis=0)  # a robust scale: t with two degrees of freedom has no variance
    moving = spread > 0
    if not moving.any():
        return spread
    return spread * np.quantile(np.max(np.abs(errors[:, moving]) / spread[moving], axis=1), coverage)
