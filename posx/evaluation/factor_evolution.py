"""An evolutionary search for LongRoPE factors: a child is a mutated parent, or a mean of two parents.

Factors never decrease from pair to pair, as in Ding et al. 2024, arXiv 2402.13753, section 3.2. Unlike there, a child
of two parents is their geometric mean with a random weight, which preserves the order without rejection, and all
factors of a parent can be changed together, since there are tens of evaluations here, not thousands.
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
RATE = 0.3  # mutation probability, as in the paper
SPREAD = 0.15  # standard deviation of the logarithm of the power that all factors are raised to
TRIES = 100  # attempts to find a new child
DIGITS = 4


@dataclass(frozen=True)
class Candidate:
    """λ_k, the number of first positions that are not rescaled, and the factor of cosines and sines (None: by s)."""

    factors: tuple[float, ...]
    n: int = 0
    attention: float | None = None

    def extension(self) -> Extension:
        """The candidate as an extension."""
        config = LongRope.Config(written(self.factors), self.n, self.attention)
        return LongRope.of(config, "longrope")


@dataclass(frozen=True)
class Space:
    """The search space: factors from 1 to ``most``, and the values of n and attention."""

    most: float
    firsts: tuple[int, ...]
    attentions: tuple[float | None, ...]


@dataclass(frozen=True)
class Scored:
    """A candidate and its nats/token, infinite if the loss is not finite."""

    candidate: Candidate
    nats: float


def as_factors(extension: Extension, frequencies: Tensor, target: Target) -> Candidate:
    """The factors, rounded to a few digits, that equal another extension of these frequencies [R/2] at this target."""
    found = extension.spectrum(frequencies, target)
    turning = frequencies > 0  # a pair that does not rotate gets the factor of its neighbour
    ratios = torch.where(turning, frequencies.double() / found.double(), torch.zeros(()).double())
    return Candidate(tidy(ratios.tolist()), attention=float(f"{extension.amplitude(target):.{DIGITS + 2}g}"))


def tidy(factors: Sequence[float], most: float = math.inf) -> tuple[float, ...]:
    """Factors rounded to a few digits, from 1 to ``most``, never decreasing."""
    rising = np.maximum.accumulate(np.clip(np.asarray(factors, dtype=np.float64), 1.0, most))
    return tuple(float(f"{value:.{DIGITS}g}") for value in rising)


def space_of(starts: Sequence[Candidate], target: Target) -> Space:
    """Factors up to the largest of the starting points (in the paper 1.25 s); n from 0 to L/2, in powers of two."""
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
    """Yield up to ``budget`` scored candidates: the starting points, then their descendants."""
    known: list[Scored] = []
    for number in range(budget):
        one = starts[number] if number < len(starts) else _child(known, space, random)
        if one is None:
            return
        known.append(Scored(one, score(one)))
        yield known[-1]


def _child(known: Sequence[Scored], space: Space, random: np.random.Generator) -> Candidate | None:
    """A new child, or None if none was found, as with a single pair."""
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
    """The geometric mean of two parents with a random weight; n and attention of one of them."""
    weight = random.random()
    logs = weight * np.log(a.factors) + (1 - weight) * np.log(b.factors)
    n, attention = ((a, b)[random.integers(2)] for _ in range(2))
    return Candidate(tidy(np.exp(logs).tolist(), space.most), n.n, attention.attention)


def changed(parent: Candidate, space: Space, random: np.random.Generator) -> Candidate:
    """Some factors redrawn between their neighbours, or all raised to a power; sometimes another n and attention."""
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
