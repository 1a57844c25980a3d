"""Tests of ``posx.results.bootstrap``."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posx.results.bootstrap import Interval, Replicates

# Student's t at 97.5 %, from a printed table, by degrees of freedom.
T = {1: 12.706, 2: 4.303, 4: 2.776, 9: 2.262, 19: 2.093, 29: 2.045, 39: 2.023}


def half(interval: tuple[float, float]) -> float:
    return (interval[1] - interval[0]) / 2


def halves(found: list[Interval]) -> np.ndarray:
    """[quantities, 2]: of the single and of the simultaneous intervals."""
    return np.array([(half(i.alone), half(i.family)) for i in found])


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_seeds_alone_give_students_interval(seeds: int) -> None:
    """All documents alike: mean ± t · sd/√S. Of two degrees of freedom and 200,000 draws, 0.5 % is chance."""
    values = np.random.default_rng(seeds).standard_normal(seeds)
    counts = np.array([3, 1, 4, 2])
    found = Replicates(counts, [values[:, None] * counts], 200_000).intervals()[0]
    expected = T[seeds - 1] * values.std(ddof=1) / math.sqrt(seeds)
    # With a single degree of freedom the tail is so long that chance is 1.3 %.
    assert half(found.alone) == pytest.approx(expected, rel=0.02 if seeds > 2 else 0.05)
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert sum(found.alone) / 2 == pytest.approx(values.mean())


@pytest.mark.parametrize("documents", [10, 20, 40])
def test_documents_alone_give_students_interval(documents: int) -> None:
    """One seed: mean ± t · sd/√D. At D = 10 a normal quantile would miss by 13 %, and √(D/(D−1)) left out by 5 %."""
    values = np.random.default_rng(documents).standard_normal((5, documents))
    counts = np.full(documents, 7)
    found = Replicates(counts, [row[None] * counts for row in values], 100_000).intervals()
    expected = T[documents - 1] * values.std(axis=1, ddof=1) / math.sqrt(documents)
    assert halves(found)[:, 0] == pytest.approx(expected, rel=0.03)


def test_unequal_documents_count_by_what_they_weigh() -> None:
    """20 long and 20 short ones, 35 and 5 targets, weigh as much as (20·40)²/(20·1250) = 25.6 alike.

    The error of a ratio is then √Σ(n·(x − mean))² / Σn, as in any book on sampling, widened by √(D/(D−1)).
    """
    effective, t = 25.6, 2.061  # Student's t at 24.6 degrees of freedom; 2.064 at 24, 2.060 at 25
    counts = np.repeat([35, 5], 20)
    ratios = []
    for seed in range(8):
        values = np.random.default_rng(seed).standard_normal(40)
        found = Replicates(counts, [(values * counts)[None]], 50_000).intervals()[0]
        mean = (values * counts).sum() / counts.sum()
        error = math.sqrt(np.square(counts * (values - mean)).sum()) / counts.sum()
        assert found.mean == pytest.approx(mean)
        ratios.append(half(found.alone) / (t * error * math.sqrt(effective / (effective - 1))))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.03)


def test_a_few_long_documents_are_a_few() -> None:
    """Ten of 50 targets among ninety of one weigh as (10·50 + 90)²/(10·2500 + 90) = 13.9 alike, not as a hundred.

    Against a bootstrap of this test's own, because a ratio of so few is no normal variate. To count a hundred would
    make the interval 12 % narrower.
    """
    effective = 590**2 / 25_090
    counts = np.repeat([50.0, 1.0], [10, 90])
    ratios = []
    for seed in range(4):
        random = np.random.default_rng([10, seed])
        sums = random.standard_normal(100) * counts
        drawn = random.multinomial(100, np.full(100, 0.01), size=20_000)
        errors = (drawn @ sums) / (drawn @ counts) - sums.sum() / counts.sum()
        factor = np.sqrt(effective / random.chisquare(effective - 1, size=len(errors)))  # √(D/(D−1)) · √((D−1)/χ²)
        found = Replicates(counts, [sums[None]], 20_000).intervals()[0]
        ratios.append(half(found.alone) / np.quantile(np.abs(errors * factor), 0.95))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.04)


def test_both_parts_add_up() -> None:
    """Half-widths of seeds and documents that weigh the same are √2 of one where both have many degrees of freedom."""
    random = np.random.default_rng(1)
    counts = np.full(200, 5)
    seeds, documents = random.standard_normal(100), random.standard_normal(200)
    seeds = (seeds - seeds.mean()) / seeds.std(ddof=1) * 10  # a standard error of 1
    documents = (documents - documents.mean()) / documents.std(ddof=1) * math.sqrt(200)  # of 1, too
    found = Replicates(counts, [(seeds[:, None] + documents) * counts], 50_000).intervals()[0]
    assert half(found.alone) == pytest.approx(1.98 * math.sqrt(2), rel=0.03)


def test_cells_that_share_their_documents_are_not_taken_for_many() -> None:
    """Forty times the same cell of one seed: not as wide as forty unlike ones.

    It comes out at 1.28, not at 1: each cell is studentised on its own, as if its variance were estimated from other
    documents than its neighbour's. Drawn anew for each cell, the documents would make both 1.7.
    """
    random = np.random.default_rng(2)
    counts = np.full(40, 9)
    one = random.standard_normal((1, 40)) * counts
    same = halves(Replicates(counts, [one] * 40, 20_000).intervals())
    unlike = [random.standard_normal((1, 40)) * counts for _ in range(40)]
    others = halves(Replicates(counts, unlike, 20_000).intervals())
    assert np.all(same[:, 1] < 1.4 * same[:, 0])
    # Šidák for forty: 1 − 0.95^(1/40) two-sided is 3.5 of t with 39 degrees of freedom, against 2.02.
    assert np.all(others[:, 1] > 1.5 * others[:, 0])
    assert np.all(others[:, 1] < 1.9 * others[:, 0])


def test_a_cell_is_as_wide_alone_as_in_company() -> None:
    """Unlike numbers of seeds in one table: the single interval is each one's own."""
    random = np.random.default_rng(6)
    counts = random.integers(2, 20, 30)
    sums = [random.standard_normal((seeds, 30)) * counts for seeds in (1, 2, 3, 5)]
    together = halves(Replicates(counts, sums, 50_000).intervals())[:, 0]
    apart = np.concatenate([halves(Replicates(counts, [s], 50_000).intervals())[:, 0] for s in sums])
    assert together == pytest.approx(apart, rel=0.05)


def table(seed: int = 7, cells: int = 4, seeds: int = 3, documents: int = 25) -> tuple[np.ndarray, list[np.ndarray]]:
    """Counts and sums of a small table in which everything moves."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, 30, documents)
    x = random.standard_normal((cells, seeds, 1)) + random.standard_normal((cells, seeds, documents))
    return counts, list(x * counts)


def test_the_same_arguments_give_the_same_bits() -> None:
    counts, sums = table()
    first = Replicates(counts, sums, 2000)
    again = Replicates(counts.copy(), [s.copy() for s in sums], 2000)
    assert np.array_equal(first.errors, again.errors)
    assert first.intervals() == again.intervals() == first.intervals()
    assert Replicates(counts, sums, 2000, seed=1).intervals() != first.intervals()


def test_arguments_are_left_as_they_were() -> None:
    counts, sums = table()
    kept, kept_sums = counts.copy(), [s.copy() for s in sums]
    Replicates(counts, sums, 100).intervals()
    assert np.array_equal(counts, kept)
    assert all(np.array_equal(a, b) for a, b in zip(sums, kept_sums, strict=True))


def test_chunks_of_replicates_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many weights are held at a time is a matter of memory."""
    counts, sums = table()
    whole = Replicates(counts, sums, 1000)
    monkeypatch.setattr("posx.results.bootstrap.ROWS", 25 * 300)
    assert Replicates(counts, sums, 1000).errors == pytest.approx(whole.errors, rel=1e-9, abs=1e-15)


def test_the_order_of_documents_says_nothing() -> None:
    """But for chance: 2 % at 50,000 replicates and two degrees of freedom."""
    counts, sums = table()
    order = np.random.default_rng(8).permutation(len(counts))
    before = halves(Replicates(counts, sums, 50_000).intervals())
    after = halves(Replicates(counts[order], [s[:, order] for s in sums], 50_000).intervals())
    assert after == pytest.approx(before, rel=0.06)


def test_nor_does_the_order_of_cells() -> None:
    counts, sums = table()
    order = [2, 0, 3, 1]
    before = halves(Replicates(counts, sums, 50_000).intervals())
    after = halves(Replicates(counts, [sums[i] for i in order], 50_000).intervals())
    assert after == pytest.approx(before[order], rel=0.06)


def test_nor_does_the_order_of_seeds() -> None:
    """Nothing is drawn from the seeds themselves, so not even chance comes in."""
    counts, sums = table()
    before = halves(Replicates(counts, sums, 2000).intervals())
    after = halves(Replicates(counts, [s[::-1] for s in sums], 2000).intervals())
    assert after == pytest.approx(before, rel=1e-9)


@given(power=st.integers(-20, 20), seeds=st.integers(1, 4), together=st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_unit_scales_the_interval_bit_for_bit(power: int, seeds: int, together: bool) -> None:
    """Powers of two round nothing: bits in place of nats would differ by their factor alone."""
    counts, sums = table(seed=seeds, seeds=seeds)
    factor = 2.0**power
    before = Replicates(counts, sums, 400, together=together).intervals()
    after = Replicates(counts, [s * factor for s in sums], 400, together=together).intervals()
    for one, other in zip(before, after, strict=True):
        assert other.mean == one.mean * factor
        assert other.alone == tuple(bound * factor for bound in one.alone)
        assert other.family == tuple(bound * factor for bound in one.family)


@pytest.mark.parametrize("seeds", [1, 3])
def test_b_less_a_is_the_mirror_of_a_less_b(seeds: int) -> None:
    """Up to chance where seeds are drawn: their errors do not turn with the sign, but are as often above as below."""
    counts, sums = table(seeds=seeds)
    before = Replicates(counts, sums, 50_000).intervals()
    after = Replicates(counts, [-s for s in sums], 50_000).intervals()
    assert [i.mean for i in after] == [-i.mean for i in before]
    assert halves(after) == pytest.approx(halves(before), rel=1e-12 if seeds == 1 else 0.06)


@given(factor=st.floats(1e-6, 1e6), seeds=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_any_factor_scales_the_interval(factor: float, seeds: int) -> None:
    counts, sums = table(seed=seeds, seeds=seeds)
    before = halves(Replicates(counts, sums, 400).intervals())
    after = halves(Replicates(counts, [s * factor for s in sums], 400).intervals())
    assert after == pytest.approx(before * factor, rel=1e-9)


@given(shift=st.floats(-10, 10), seeds=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_a_constant_moves_the_interval_and_does_not_widen_it(shift: float, seeds: int) -> None:
    """So coverage of a truth of 0 is coverage of any. It holds for unequal documents because counts are redrawn too."""
    counts, sums = table(seed=seeds, seeds=seeds)
    before = Replicates(counts, sums, 400).intervals()
    after = Replicates(counts, [s + shift * counts for s in sums], 400).intervals()
    for one, other in zip(before, after, strict=True):
        assert other.mean == pytest.approx(one.mean + shift, abs=1e-12)
        assert other.alone == pytest.approx([bound + shift for bound in one.alone], rel=1e-9, abs=1e-9)
        assert other.family == pytest.approx([bound + shift for bound in one.family], rel=1e-9, abs=1e-9)


@given(seed=st.integers(0, 10**6), cells=st.integers(1, 8), seeds=st.integers(1, 4), documents=st.integers(2, 30))
@settings(max_examples=40, deadline=None)
def test_simultaneous_is_never_narrower(seed: int, cells: int, seeds: int, documents: int) -> None:
    counts, sums = table(seed, cells, seeds, documents)
    for found in Replicates(counts, sums, 200).intervals():
        assert found.family[0] <= found.alone[0] <= found.mean <= found.alone[1] <= found.family[1]


def test_more_coverage_is_wider() -> None:
    counts, sums = table()
    drawn = Replicates(counts, sums, 5000)
    assert np.all(halves(drawn.intervals(0.99)) > halves(drawn.intervals(0.95)))
    assert np.all(halves(drawn.intervals(0.95)) > halves(drawn.intervals(0.8)))


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_difference_is_no_width(seeds: int) -> None:
    counts = np.array([5, 6, 7])
    (found,) = Replicates(counts, [np.zeros((seeds, 3))], 500).intervals()
    assert found == Interval(0.0, (0.0, 0.0), (0.0, 0.0))


def test_no_difference_beside_others_is_no_width() -> None:
    """An extension that does nothing at 1x stands in the table of those that do; it widens none of them."""
    counts, sums = table()
    found = Replicates(counts, [*sums, np.zeros_like(sums[0])], 500).intervals()
    assert found[-1] == Interval(0.0, (0.0, 0.0), (0.0, 0.0))
    assert all(np.isfinite(i.family).all() and half(i.family) > 0 for i in found[:-1])


@pytest.mark.parametrize("counts", [[1, 1], [1000, 1], [1, 10**6], [5000, 1, 1, 1]])
@pytest.mark.parametrize("seeds", [1, 3])
def test_few_and_lopsided_documents_give_numbers(counts: list[int], seeds: int) -> None:
    """Wide they may be, but never "not a number", which no comparison would catch."""
    sums = np.random.default_rng(9).standard_normal((2, seeds, len(counts))) * counts
    for found in Replicates(np.array(counts), list(sums), 2000).intervals():
        assert not np.isnan([found.mean, *found.alone, *found.family]).any()


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_a_ratio_of_proportional_parts_is_sure(seeds: int) -> None:
    """Both move as one: their ratio stays 0.4 in every replicate, as it does not where each is drawn on its own."""
    counts, (whole,) = table(cells=1, seeds=seeds)
    whole = whole + 10 * counts
    both = Replicates(counts, [0.4 * whole, whole], 2000, together=True)
    over, under = (both.means + both.errors).T
    assert over / under == pytest.approx(0.4, rel=1e-9)
    own = Replicates(counts, [0.4 * whole, whole], 2000)
    over, under = (own.means + own.errors).T
    assert np.ptp(over / under) > 1e-3


def test_together_gives_each_part_its_own_width() -> None:
    """Only how the parts move changes, not how far: seeds drawn with their covariance are still Student's t."""
    counts, sums = table(cells=2, seeds=3)
    apart = halves(Replicates(counts, sums, 100_000).intervals())[:, 0]
    joint = halves(Replicates(counts, sums, 100_000, together=True).intervals())[:, 0]
    assert joint == pytest.approx(apart, rel=0.04)


def test_a_large_table_is_computed() -> None:
    """What a sweep asks for: 40 cells of 5 seeds over 250 documents, 10,000 replicates."""
    counts, sums = table(cells=40, seeds=5, documents=250)
    start = time.process_time()
    found = Replicates(counts, sums).intervals()
    print(f"{time.process_time() - start:.2f} s of processor time")
    assert len(found) == 40
    assert all(np.isfinite(i.family).all() for i in found)
