"""Factors of longrope by evolution: parents are the best so far, a child is a changed parent or a mean of two.

Factors never fall from pair to pair, as in Ding et al. 2024, arXiv 2402.13753, section 3.2. Unlike there, a child of
two is their geometric mean with a random weight, which keeps the order without trial and error, and a parent may also
be changed as a whole: evaluations here are counted in tens, not in thousands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from posx.extensions.base import Extension, Target
from posx.extensions.longrope import LongRope, written

PARENTS = 4
RATE = 0.3  # of what is changed in a parent, as in the paper
SPREAD = 0.15  # standard deviation of the logarithm of a power to which all factors are raised
TRIES = 100  # for a child that is not there yet
DIGITS = 4


@dataclass(frozen=True)
class Candidate:
    """λ_k, the first positions that keep theirs, and what cosines and sines are multiplied by (None: by s)."""

    factors: tuple[float, ...]
    n: int = 0
    attention: float | None = None

    def extension(self) -> Extension:
        """As an extension."""
        config = LongRope.Config(written(self.factors), self.n, self.attention)
        return LongRope.of(config, "longrope")


@dataclass(frozen=True)
class Space:
    """What a child may be: factors from 1 to ``most``, n and attention one of theirs."""

    most: float
    firsts: tuple[int, ...]
    attentions: tuple[float | None, ...]


@dataclass(frozen=True)
class Scored:
    """A candidate and its nats a token; infinite where they are no number."""

    candidate: Candidate
    nats: float


def as_factors(extension: Extension, frequencies: Tensor, target: Target) -> Candidate:
    """What another scaling of these frequencies [R/2] does at this target, as factors of a few digits."""
    found = extension.spectrum(frequencies, target)
    turning = frequencies > 0  # a pair that does not rotate takes the factor of its neighbour
    ratios = torch.where(turning, frequencies.double() / found.double(), torch.zeros(()).double())
    return Candidate(tidy(ratios.tolist()), attention=float(f"{extension.amplitude(target):.{DIGITS + 2}g}"))


def tidy(factors: Sequence[float], most: float = math.inf) -> tuple[float, ...]:
    """Of a few digits, from 1 to ``most``, never falling."""
    rising = np.maximum.accumulate(np.clip(np.asarray(factors, dtype=np.float64), 1.0, most))
    return tuple(float(f"{value:.{DIGITS}g}") for value in rising)


def space_of(starts: Sequence[Candidate], target: Target) -> Space:
    """Up to the largest factor of a start (in the paper up to 1.25 s); n from 0 to L/2, by powers of two."""
    firsts = [0, *(2**power for power in range(32) if 2**power <= target.context / 2)]
    attentions = dict.fromkeys([None, *(candidate.attention for candidate in starts)])
    return Space(max(candidate.factors[-1] for candidate in starts), tuple(firsts), tuple(attentions))


def evolve(
    starts: Sequence[Candidate],
    score: Callable[[Candidate], float],
    space: Space,
    budget: int,
    random: np.random.Generator,
) -> Iterator[Scored]:
    """Up to ``budget`` candidates with their nats, as they come: the starts, then their descendants."""
    known: list[Scored] = []
    for number in range(budget):
        one = starts[number] if number < len(starts) else _child(known, space, random)
        if one is None:
            return
        known.append(Scored(one, score(one)))
        yield known[-1]


def _child(known: Sequence[Scored], space: Space, random: np.random.Generator) -> Candidate | None:
    """One that is not there yet; None where none was found, as where a single pair leaves little to change."""
    there = {scored.candidate for scored in known}
    parents = [scored.candidate for scored in sorted(known, key=lambda scored: scored.nats)[:PARENTS]]
    for _ in range(TRIES):
        if len(parents) > 1 and random.random() < 0.5:
            first, second = random.choice(len(parents), size=2, replace=False)
            child = mean(parents[first], parents[second], space, random)
        else:
            child = changed(parents[random.integers(len(parents))], space, random)
        if child not in there:
            return child
    return None


def mean(a: Candidate, b: Candidate, space: Space, random: np.random.Generator) -> Candidate:
    """The geometric mean with a random weight; n and attention of either."""
    weight = random.random()
    logs = weight * np.log(a.factors) + (1 - weight) * np.log(b.factors)
    n, attention = ((a, b)[random.integers(2)] for _ in range(2))
    return Candidate(tidy(np.exp(logs).tolist(), space.most), n.n, attention.attention)


def changed(parent: Candidate, space: Space, random: np.random.Generator) -> Candidate:
    """Some factors drawn anew between their neighbours, or all raised to one power; at times another n, attention."""
    factors = list(parent.factors)
    if random.random() < 0.5:
        power = math.exp(random.normal(scale=SPREAD))
        factors = [value**power for value in factors]
    else:
        for k in range(len(factors)):
            if random.random() < RATE:
                low = factors[k - 1] if k else 1.0
                high = factors[k + 1] if k + 1 < len(factors) else space.most
                factors[k] = math.exp(random.uniform(math.log(low), math.log(high)))
    child = replace(parent, factors=tidy(factors, space.most))
    if random.random() < RATE:
        place = space.firsts.index(parent.n) + (1 if random.random() < 0.5 else -1)
        child = replace(child, n=space.firsts[min(max(place, 0), len(space.firsts) - 1)])
    if random.random() < RATE:
        child = replace(child, attention=space.attentions[random.integers(len(space.attentions))])
    return child
