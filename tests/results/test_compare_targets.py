"""Tests of ``posx.results.compare``: targets."""

from __future__ import annotations

import json

import pytest

from fixtures.compare import (
    compared,
    pair,
    shelf,  # noqa: F401
)
from fixtures.models import posx
from fixtures.records import ALIBI, FEW, ROPE, Shelf, by_document, hardness
from fixtures.stored_records import record
from posx.errors import PosxError
from posx.results.compare import refuse_unlike


def test_all_reasons_are_named() -> None:
    with pytest.raises(PosxError) as caught:
        refuse_unlike(record(5.0), record(5.0, targets_sha256="66" * 32, stride=16, target_context=1024))
    assert "eval.stride" in caught.value.message
    assert "eval.target_context" in caught.value.message


def test_equal_hashes_are_enough() -> None:
    refuse_unlike(record(5.0), record(5.0, corpus_sha256="ab" * 32))


def test_one_unlike_seed_is_not_compared(shelf: Shelf) -> None:
    """Seed 1 of alibi has other targets: nothing of it may enter the difference."""
    pair(shelf, {64: (0.1, 0.02)}, seeds=1)
    shelf.put(hardness(1), seed=1, **ROPE)
    shelf.put(hardness(1) + 5, seed=1, targets_sha256="66" * 32, stride=16, **ALIBI)
    result = posx("compare", "rope", "alibi", "--json", "--runs-dir", shelf.folder)
    (one,) = json.loads(result.stdout)
    assert one["seeds"] == [[0, 0]]
    assert one["difference"] == pytest.approx(0.1, abs=1e-5)


def test_what_was_evaluated_again_on_other_targets_is_compared_on_those_in_common(shelf: Shelf) -> None:
    """rope was evaluated at 4x, and again with a longer target context for 16x; alibi at 4x only."""
    pair(shelf, {64: (0.1, 0.02), 256: (0.2, 0.02)}, seeds=1)
    other = {"targets_sha256": "66" * 32, "target_context": 1024}
    shelf.row({256: (9.0, 0.02), 1024: (9.0, 0.02)}, documents=FEW, **other, **ROPE)
    found = compared(shelf, "rope", "alibi")
    assert [(one["length"], one["n_documents"]) for one in found] == [(64, 24), (256, 24)]
    assert [one["difference"] for one in found] == pytest.approx([0.1, 0.2], abs=1e-5)


@pytest.mark.parametrize("first", ["long", "short"])
def test_lengths_over_unlike_targets_have_intervals_of_their_own(shelf: Shelf, first: str) -> None:
    """64 and 256 over 24 documents, 1024 over 7: whichever record comes first."""

    def short() -> None:
        pair(shelf, {64: (0.1, 0.02), 256: (0.2, 0.02)}, seeds=1)

    def long() -> None:
        for label, gap in ((ROPE, 0.3), (ALIBI, 0.0)):
            own = {"targets_sha256": "66" * 32, "target_context": 1024, "length": 1024}
            shelf.put(hardness(0, FEW) + by_document(gap, 0.02 * gap, FEW), FEW, **own, **label)

    for make in (long, short) if first == "long" else (short, long):
        make()
    found = compared(shelf, "rope", "alibi")
    assert [(one["length"], one["n_documents"]) for one in found] == [(64, 24), (256, 24), (1024, 7)]
    assert [one["difference"] for one in found] == pytest.approx([0.1, 0.2, 0.3], abs=1e-5)
    for one in found:
        low, high = one["interval"]["family"]
        assert low < one["difference"] < high < low + 0.1
