"""Tests of ``posx.results.compare``: pairing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fixtures.compare import (
    compared,
    pair,
    shelf,  # noqa: F401
)
from fixtures.models import posx
from fixtures.records import ALIBI, COUNTS, DOCUMENTS, ROPE, TARGETS, Shelf, by_document, hardness
from posx.results.compare import differences
from posx.results.records import Record


def student(gaps: np.ndarray) -> float:
    """Half of Student's 95 % interval of a mean over documents, by plain loops: t with 19 degrees of freedom."""
    documents = sorted(set(DOCUMENTS.tolist()))
    mean = sum(gaps.tolist()) / TARGETS
    rest = [sum(g - mean for g, d in zip(gaps.tolist(), DOCUMENTS, strict=True) if d == one) for one in documents]
    number = TARGETS**2 / sum(int(n) ** 2 for n in COUNTS)  # documents by what they weigh: 20.1
    return 2.09 * math.sqrt(sum(r * r for r in rest)) / TARGETS * math.sqrt(number / (number - 1))


def test_groups_of_seeds_are_compared_seed_by_seed_and_target_by_target(shelf: Shelf) -> None:
    gaps = {64: (-0.2, 0.05), 128: (0.0, 0.001), 256: (0.3, 0.05), 512: (0.01, 0.2)}
    pair(shelf, gaps)
    found = compared(shelf, "rope", "alibi")
    assert [one["length"] for one in found] == [64, 128, 256, 512]
    verdicts = ["A is better", "no difference", "B is better", "undecided"]
    for one, (length, (gap, _)), verdict in zip(found, gaps.items(), verdicts, strict=True):
        base = sum(float(hardness(seed).mean()) for seed in range(3)) / 3 + length / 640
        assert one["b"] == pytest.approx(base, abs=1e-5)
        assert one["a"] == pytest.approx(base + gap, abs=1e-5)
        assert one["difference"] == pytest.approx(gap, abs=1e-5)
        assert one["seeds"] == [[0, 0], [1, 1], [2, 2]]
        assert (one["a_name"], one["b_name"]) == ("rope", "alibi")
        assert (one["n_targets"], one["n_documents"]) == (TARGETS, 24)
        assert one["verdict"] == verdict
        low, high = one["interval"]["family"]
        alone = one["interval"]["alone"]
        assert low <= alone[0] < gap < alone[1] <= high
        assert (low + high) / 2 == pytest.approx(gap, abs=1e-5)
    assert found[0]["interval"]["family"][1] - found[0]["interval"]["family"][0] < 0.2


def test_pairing_by_target_takes_the_difficulty_of_the_text_out(shelf: Shelf) -> None:
    """Documents and targets differ by half a nat, the gap by 0.02: paired, the interval is as narrow as the gap's."""
    pair(shelf, {256: (0.1, 0.02)}, seeds=1)
    (one,) = compared(shelf, "rope", "alibi")
    half = (one["interval"]["alone"][1] - one["interval"]["alone"][0]) / 2
    assert half == pytest.approx(student(by_document(0.1, 0.02, seed=256)), rel=0.12)
    assert half < student(hardness()) / 3


def test_a_and_b_turned_round_turn_the_sign(shelf: Shelf) -> None:
    pair(shelf, {64: (-0.2, 0.05), 128: (0.3, 0.05)})
    there, back = compared(shelf, "rope", "alibi"), compared(shelf, "alibi", "rope")
    turned = {"A is better": "B is better", "B is better": "A is better"}
    for one, other in zip(there, back, strict=True):
        assert one["difference"] == pytest.approx(-other["difference"])
        assert one["interval"]["family"] == pytest.approx(
            [-bound for bound in other["interval"]["family"][::-1]],
            abs=0.002,  # replicates of seeds are drawn, and not turned round
        )
        assert turned[one["verdict"]] == other["verdict"]


def test_intervals_are_simultaneous_over_the_lengths(shelf: Shelf) -> None:
    pair(shelf, {64 * 2**n: (0.1, 0.05) for n in range(6)})
    (alone,) = compared(shelf, "rope", "alibi", "--length", "128")
    together = next(one for one in compared(shelf, "rope", "alibi") if one["length"] == 128)
    width = [one["interval"]["family"][1] - one["interval"]["family"][0] for one in (alone, together)]
    assert width[1] > 1.2 * width[0]
    assert together["interval"]["alone"] == pytest.approx(alone["interval"]["alone"], abs=0.01)


def test_without_a_seed_in_common_they_are_paired_in_order_and_it_says_so(shelf: Shelf) -> None:
    for seed in (0, 1):
        shelf.put(hardness(seed), seed=seed, **ROPE)
    for seed in (5, 6, 7):
        shelf.put(hardness(seed - 5) + by_document(0.2, 0.01), seed=seed, **ALIBI)
    (one,) = compared(shelf, "rope", "alibi")
    assert one["seeds"] == [[0, 5], [1, 6]]
    assert one["difference"] == pytest.approx(-0.2, abs=1e-5)
    assert "have no seed in common" in posx("compare", "rope", "alibi", "--runs-dir", shelf.folder).stdout


def test_failed_seeds_are_left_out(shelf: Shelf) -> None:
    pair(shelf, {256: (0.1, 0.02)}, seeds=2)
    shelf.put(None, seed=2, length=256, status="oom", reason="out of memory", **ROPE)
    shelf.put(hardness(2), seed=2, length=256, **ALIBI)
    (one,) = compared(shelf, "rope", "alibi")
    assert one["seeds"] == [[0, 0], [1, 1]]


def test_a_length_without_losses_does_not_take_the_intervals_of_others(shelf: Shelf) -> None:
    pair(shelf, {64: (0.1, 0.02)}, seeds=1)
    shelf.put(hardness(), length=128, losses=False, **ROPE)
    shelf.put(hardness() + 0.5, length=128, **ALIBI)
    found = compared(shelf, "rope", "alibi")
    assert [one["interval"] is None for one in found] == [False, True]


def test_differences_are_a_function_of_their_arguments(shelf: Shelf) -> None:
    pair(shelf, {64: (0.1, 0.02)}, seeds=2)
    sides: list[dict[int, list[Record]]] = [
        {64: [r for r in shelf.records if r.label == label]} for label in ("rope", "alibi")
    ]
    assert differences(sides[0], sides[1], 500) == differences(sides[0], sides[1], 500)
