"""Tests of ``posx.results.bootstrap``: coverage."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures.simulation import CROSSED, REPLICATES, SIMULATIONS, Setting, simulate
from posx.results.bootstrap import Replicates
from posx.results.cells import verdict_of

LEAST = 0.94


MOST_FALSE = 0.05


@pytest.mark.parametrize("name", CROSSED)
def test_a_single_interval_holds_the_truth(name: str) -> None:
    """In 94 of 100 simulations: on one cell fixed beforehand, and over all cells."""
    outcome = simulate(CROSSED[name])
    print(name, outcome)
    assert outcome.first >= LEAST
    assert outcome.alone >= LEAST


@pytest.mark.parametrize("name", CROSSED)
def test_simultaneous_intervals_keep_the_whole_table_right(name: str) -> None:
    assert simulate(CROSSED[name]).family >= LEAST


@pytest.mark.parametrize("name", CROSSED)
def test_where_nothing_is_gained_the_verdict_rarely_says_uses(name: str) -> None:
    """Of the cells, and of the tables that have one such cell: a reader looks for the best of a table."""
    outcome = simulate(CROSSED[name])
    assert outcome.uses <= MOST_FALSE
    assert outcome.any_uses <= MOST_FALSE


def test_one_seed_covers_other_documents() -> None:
    """All that one seed can speak of: the truth here has no seed in it."""
    outcome = simulate(Setting(1, 30, by_seed=0.0, by_document=1.0), cells=4)
    print(outcome)
    assert outcome.first >= LEAST
    assert outcome.alone >= LEAST
    assert outcome.family >= LEAST
    assert outcome.any_uses <= MOST_FALSE


def test_one_seed_says_nothing_of_other_seeds() -> None:
    """The simulation sees what an interval leaves out: with a seed effect, one seed covers next to nothing."""
    assert simulate(Setting(1, 30, by_seed=1.0, by_document=1.0), cells=4, simulations=200).alone < 0.6


def test_drawing_documents_anew_inside_each_seed_covers_too_little() -> None:
    """The mistake that this bootstrap avoids, on the same tables: it averages the documents' noise over the seeds."""
    setting = CROSSED["5x40 documents"]
    random = np.random.default_rng(3)
    simulations, size = 300, 300
    naive = crossed = 0
    for number in range(simulations):
        counts, (x,) = setting.draw(random, cells=1)
        weights = random.multinomial(
            setting.documents, np.full(setting.documents, 1 / setting.documents), size=(size, setting.seeds)
        )
        which = random.integers(setting.seeds, size=(size, setting.seeds))
        of_seed = (weights * (x * counts)[which]).sum(axis=2) / (weights * counts).sum(axis=2)
        low, high = np.quantile(of_seed.mean(axis=1), [0.025, 0.975])
        naive += low <= 0 <= high
        (found,) = Replicates(counts, [x * counts], REPLICATES, seed=number).intervals()
        crossed += found.alone[0] <= 0 <= found.alone[1]
    print("naive", naive / simulations, "crossed", crossed / simulations)
    assert naive / simulations < 0.80
    assert crossed / simulations > 0.92  # 94 % less what 300 simulations leave open


def test_a_gain_that_is_there_is_found() -> None:
    """Intervals as wide as the sea would pass all that stands above."""
    random = np.random.default_rng(4)
    # At 5 × 40 the mean's standard error is √(0.01²/5 + 0.04²/40 + 0.02²/200) = 0.008: a gain of 0.06 is 7 of them.
    setting = Setting(5, 40, by_seed=0.01, by_document=0.04, noise=0.02)
    said = []
    for number in range(200):
        counts, x = setting.draw(random)
        found = Replicates(counts, list((x - 0.06) * counts), REPLICATES, seed=number).intervals()
        said += [verdict_of(i.family) for i in found]
    assert said.count("uses") / len(said) > 0.95


@pytest.mark.parametrize("shared", [False, True])
def test_a_ratio_drawn_together_holds_the_truth(shared: bool) -> None:
    """The gain share at 5 × 40, with a denominator of 1 that lies five standard errors or more above 0."""
    truth, of = 0.5, 1.0
    # √(0.25²/5 + 0.8²/40) = 0.17 for either quantity: neither effect dominates.
    setting = Setting(5, 40, by_seed=0.25, by_document=0.8, noise=0.4, shared=shared)
    random = np.random.default_rng([5, shared])
    held = 0
    for number in range(SIMULATIONS):
        counts, x = setting.draw(random, cells=2)
        drawn = Replicates(counts, [(x[0] + truth) * counts, (x[1] + of) * counts], REPLICATES, number, together=True)
        over, under = (drawn.means + drawn.errors).T
        low, high = np.quantile(over / under, [0.025, 0.975])
        held += low <= truth / of <= high
    print("ratio", shared, held / SIMULATIONS)
    assert held / SIMULATIONS >= LEAST
