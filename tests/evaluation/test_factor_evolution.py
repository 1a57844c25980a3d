"""Tests of ``posx.evaluation.factor_evolution``."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.models import make_scheme
from posx.config.schema import ModelConfig
from posx.evaluation.factor_evolution import Candidate, Space, as_factors, evolve, space_of, tidy
from posx.extensions.base import Target
from posx.extensions.ntk import NTK
from posx.extensions.pi import PI, ScaledConfig
from posx.extensions.yarn import Yarn


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10**6), st.sampled_from([1.5, 4.0, 64.0]))
def test_candidates_are_what_they_may_be(pairs: int, seed: int, s: float) -> None:
    """Starts first; then factors that never fall, from 1 to the most; no candidate twice."""
    target = Target(64, round(64 * s))
    starts = [Candidate((s,) * pairs, 0, 1.0), Candidate(tidy([s ** (k / pairs) for k in range(pairs)]), 0, 1.2)]
    space = space_of(starts, target)
    assert space.firsts == (0, 1, 2, 4, 8, 16, 32)
    assert space.attentions == (None, 1.0, 1.2)
    random = np.random.default_rng(seed)
    found = [one.candidate for one in evolve(starts, lambda c: sum(c.factors), space, 40, random)]
    assert found[:2] == starts[:2]
    assert len(set(found)) == len(found) == 40
    for one in found:
        assert len(one.factors) == pairs
        assert all(low <= high for low, high in zip(one.factors, one.factors[1:], strict=False))
        assert one.factors[0] >= 1
        assert one.factors[-1] <= space.most
        assert one.n in space.firsts
        assert one.attention in space.attentions


def test_it_finds_what_is_there_to_find() -> None:
    """Hidden factors, an n and an attention, by their distance: in 64 evaluations from starts far from them."""
    hidden = np.log([1, 1, 1.1, 1.5, 2, 3, 3.5, 4])

    def distance(one: Candidate) -> float:
        return float(np.abs(np.log(one.factors) - hidden).mean()) + 0.1 * (one.n != 2) + 0.1 * (one.attention != 1.0)

    starts = [Candidate((4.0,) * 8, 0, 1.0), Candidate(tidy([4 ** (k / 7) for k in range(8)]), 0, 1.1)]
    space = space_of(starts, Target(64, 256))
    shares = []
    for seed in range(10):
        found = [one.nats for one in evolve(starts, distance, space, 64, np.random.default_rng(seed))]
        shares.append(min(found) / min(found[:2]))
    assert sum(shares) / len(shares) < 0.7, shares
    assert max(shares) < 1, shares


def test_it_ends_where_there_is_nothing_new() -> None:
    space = Space(1.0, (0,), (None,))
    assert len(list(evolve([Candidate((1.0,))], lambda _: 0.0, space, 64, np.random.default_rng(0)))) == 1


def test_a_number_that_is_none_is_never_the_best() -> None:
    starts = [Candidate((1.0, 2.0)), Candidate((1.0, 3.0))]
    scores = {starts[0]: math.inf, starts[1]: 1.0}
    space = space_of(starts, Target(16, 64))
    found = list(evolve(starts, lambda one: scores.get(one, 2.0), space, 10, np.random.default_rng(0)))
    assert min(found, key=lambda one: one.nats).candidate == starts[1]


def test_other_scalings_as_factors() -> None:
    """pi: s; ntk: from 1 to s in equal steps of the logarithm; yarn's temperature. θ = 0 takes a neighbour's factor."""
    target, theta = Target(16, 64), make_scheme("rope", ModelConfig(d_model=8, n_heads=1)).frequencies()
    assert as_factors(PI(ScaledConfig()), theta, target) == Candidate((4.0,) * 4, 0, 1.0)
    assert as_factors(NTK(ScaledConfig()), theta, target).factors == (1.0, 1.587, 2.52, 4.0)
    yarn = Yarn(Yarn.Config())
    assert as_factors(yarn, theta, target).attention == pytest.approx(0.1 * math.log(4) + 1, rel=1e-5)
    still = torch.where(torch.arange(4) < 2, theta, 0.0)
    assert as_factors(PI(ScaledConfig()), still, target).factors == (4.0,) * 4
