"""Tests of ``posx.results.compare``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fixtures.cells import (
    ABOVE,
    COUNTS,
    DOCUMENTS,
    FEW,
    TARGETS,
    L,
    Shelf,
    change,
    half,
    losses,
    record,
    shelf,  # noqa: F401
)
from posx.errors import PosxError
from posx.results.bootstrap import Interval, Replicates
from posx.results.cells import DELTA
from posx.results.compare import Difference, differences, refuse_unlike


def sides(shelf: Shelf, by_seed: dict[int, float], other: dict[int, float], length: int = L, **changes: Any) -> tuple:
    """Records of A, all at 5 nats plus what is said for the seed, and of B; of targets that both find hard."""
    a = [shelf.put(losses() + v + change(0, 0.05, 10 + s), seed=s, length=length) for s, v in by_seed.items()]
    b = [
        shelf.put(losses() + v, seed=s, length=length, run="alibi", config_sha256="55" * 32, **changes)
        for s, v in other.items()
    ]
    return {length: a}, {length: b}


def test_seeds_are_paired_by_their_number(shelf: Shelf) -> None:
    """In any order, and without those of one side alone: unpaired, the difference would come out at about −29."""
    a, b = sides(shelf, {2: 0.1, 0: 0.2, 1: 0.3}, {7: 90.0, 1: 0.2, 2: 0.05})
    (found,) = differences(a, b, FEW)
    assert found.seeds == ((1, 1), (2, 2))
    assert found.difference == pytest.approx((0.1 + 0.05) / 2, abs=1e-6)
    assert (found.a, found.b) == (pytest.approx(5.2, abs=1e-6), pytest.approx(5.125, abs=1e-6))
    assert (found.length, found.n_targets, found.n_documents) == (L, TARGETS, 30)
    assert found.interval is not None
    assert found.interval.mean == pytest.approx(found.difference, abs=1e-6)


def test_where_no_seed_is_common_they_stand_side_by_side(shelf: Shelf) -> None:
    a, b = sides(shelf, {0: 0.1, 1: 0.2}, {5: 0.0, 6: 0.0, 7: 9.0})
    (found,) = differences(a, b, FEW)
    assert found.seeds == ((0, 5), (1, 6))
    assert found.difference == pytest.approx(0.15, abs=1e-6)


def test_only_lengths_of_both_are_compared(shelf: Shelf) -> None:
    a, b = sides(shelf, {0: 0.1}, {0: 0.0})
    a[128] = [shelf.put(losses(), length=128)]
    b[256] = [shelf.put(losses(), length=256)]
    a[512], b[512] = [shelf.put(losses(), length=512)], [shelf.failed(length=512)]
    assert [d.length for d in differences(a, b, FEW)] == [L]
    assert differences(a, {}, FEW) == []


def test_the_interval_of_a_difference_is_that_of_its_pairs(shelf: Shelf) -> None:
    """The documents of a pair are hard for both: paired, the interval is much narrower than the spread of losses."""
    a, b = sides(shelf, {0: 0.10, 1: 0.13, 2: 0.12}, {0: 0.0, 1: 0.0, 2: 0.0})
    (found,) = differences(a, b, 20_000)
    sums = np.stack(
        [
            np.add.reduceat(0.1 + change(v, 0.05, 10 + s), np.cumsum([0, *COUNTS[:-1]]))
            for s, v in enumerate((0, 0.03, 0.02))
        ]
    )
    (expected,) = Replicates(COUNTS, [sums], 20_000, seed=1).intervals()
    assert found.interval is not None
    assert found.difference == pytest.approx(0.35 / 3, abs=1e-6)
    assert half(found.interval.alone) == pytest.approx(half(expected.alone), rel=0.06)
    assert half(found.interval.alone) < 0.06


def test_intervals_are_simultaneous_over_the_lengths(shelf: Shelf) -> None:
    a, b = {}, {}
    for number, length in enumerate((64, 128, 256, 512, 1024)):
        a[length] = [shelf.put(losses() + change(0.0, 0.1, 20 + number), length=length)]
        b[length] = [shelf.put(losses(), length=length, run="alibi", config_sha256="55" * 32)]
    found = differences(a, b, 5000)
    assert [d.length for d in found] == [64, 128, 256, 512, 1024]
    for one in found:
        assert one.interval is not None
        assert half(one.interval.family) > 1.1 * half(one.interval.alone)
    (single,) = differences({64: a[64]}, {64: b[64]}, 5000)
    assert single.interval is not None
    assert found[0].interval is not None
    assert half(found[0].interval.alone) == pytest.approx(half(single.interval.alone), rel=0.06)


def test_a_difference_without_losses_has_no_interval(shelf: Shelf) -> None:
    a, b = sides(shelf, {0: 0.1}, {0: 0.0}, losses=False)
    (found,) = differences(a, b, FEW)
    assert found.difference == pytest.approx(0.1, abs=1e-6)
    assert (found.interval, found.verdict) == (None, "")


def test_lengths_of_other_targets_are_not_drawn_with_each_other(shelf: Shelf) -> None:
    """Two evaluations, each with targets of its own: at 128 other documents speak than at 64, and count otherwise."""
    a, b = sides(shelf, {0: 0.1}, {0: 0.0})
    fewer = slice(0, TARGETS - 30)
    for side in (a, b):
        nll = losses()[fewer] + (change(0.2, 0.05)[fewer] if side is a else 0.0)
        side[128] = [shelf.put(nll, DOCUMENTS[fewer], length=128, n_documents=29, targets_sha256="66" * 32)]
    try:
        found = differences(a, b, FEW)
    except PosxError:
        return  # to refuse them is as good
    for one in found:
        assert one.interval is not None
        assert one.interval.mean == pytest.approx(one.difference, abs=1e-6)


@pytest.mark.parametrize(
    "field, value, reason",
    [
        ("stride", 8, "tail strides differ"),
        ("target_context", 1024, "target contexts differ"),
        ("max_targets", 512, "numbers of targets differ"),
        ("split", "validation", "splits differ"),
        ("protocol", "stream", "protocols differ"),
        ("target_seed", 3, "seeds of their targets differ"),
        ("corpus_sha256", "77" * 32, "corpora differ"),
    ],
)
def test_unlike_targets_are_refused_with_the_reason(shelf: Shelf, field: str, value: Any, reason: str) -> None:
    a, b = sides(shelf, {0: 0.1}, {0: 0.0}, targets_sha256="66" * 32, **{field: value})
    with pytest.raises(PosxError, match="rope and alibi were scored on different targets") as caught:
        differences(a, b, FEW)
    message = str(caught.value)
    assert reason in message
    if not field.endswith("sha256"):
        assert f": {getattr(a[L][0], field)} and {value}" in message
    # No reason that is none.
    assert message.count(";") == 0
    assert "posx eval rope alibi" in caught.value.hint


def test_all_reasons_are_named(shelf: Shelf) -> None:
    a, b = sides(shelf, {0: 0.1}, {0: 0.0}, targets_sha256="66" * 32, stride=8, split="validation")
    with pytest.raises(PosxError) as caught:
        differences(a, b, FEW)
    assert "tail strides differ" in str(caught.value)
    assert "splits differ" in str(caught.value)


def test_targets_that_differ_for_no_setting_are_of_another_tokenizer() -> None:
    with pytest.raises(PosxError, match="tokenizers differ"):
        refuse_unlike(record(5.0), record(5.0, targets_sha256="66" * 32))


def test_the_same_targets_by_other_settings_are_the_same() -> None:
    """Where all targets fit, a larger limit draws the same ones."""
    refuse_unlike(record(5.0), record(5.0, max_targets=8192))


@pytest.mark.parametrize(
    "low, high, words",
    [
        (-0.3, -0.1, "A is better"),
        (-0.3, math.nextafter(0.0, -1), "A is better"),
        (-0.3, 0.0, "undecided"),
        (-DELTA, 0.0, "no difference"),
        (-DELTA, DELTA, "no difference"),
        (0.0, DELTA, "no difference"),
        (0.0, 0.0, "no difference"),
        (-ABOVE, DELTA, "undecided"),
        (-DELTA, ABOVE, "undecided"),
        (0.0, 0.3, "undecided"),
        (math.nextafter(0.0, 1), 0.3, "B is better"),
        (0.1, 0.3, "B is better"),
    ],
)
def test_words_for_a_difference(low: float, high: float, words: str) -> None:
    """Losses: the smaller is better. Read from the simultaneous interval."""
    mean = (low + high) / 2
    interval = Interval(mean, (mean, mean), (low, high))
    assert Difference(L, 5.0, 5.0, mean, interval, ((0, 0),), 1, 1).verdict == words


@pytest.mark.parametrize("shift, words", [(0.1, "B is better"), (-0.1, "A is better"), (0.5, "B is better")])
def test_the_side_with_less_loss_wins(shelf: Shelf, shift: float, words: str) -> None:
    a, b = sides(shelf, {0: shift, 1: shift + 0.001, 2: shift}, {0: 0.0, 1: 0.0, 2: 0.0})
    (found,) = differences(a, b, 2000)
    assert found.verdict == words
