"""Tests of ``posx.evaluation.protocols.fixed_targets``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.corpora import by_hand
from fixtures.window_texts import bounds, chi_square, home, scored
from posx.data.corpus import Corpus
from posx.errors import PosxError
from posx.evaluation.protocols.fixed_targets import FEWEST_TARGETS, TargetSet, fixed_targets, windows_of_targets


def eligible(lengths: list[int], context: int, stride: int) -> tuple[list[list[int]], int]:
    """Tails of ``stride`` tokens that follow each other, each with ``context`` before it; and what is left."""
    tails, left = [], 0
    for first, end in bounds(lengths):
        targets = [token for token in range(first, end) if token - first >= context]
        while len(targets) >= stride:
            tails.append(targets[:stride])
            targets = targets[stride:]
        left += len(targets)
    return tails, left


def choose(
    lengths: list[int], context: int, stride: int, most: int = 10**6, seed: int = 0, split: str = "test"
) -> TargetSet:
    return fixed_targets(by_hand(lengths, split), split, context, stride, most, seed)


def tails_of(targets: TargetSet) -> list[list[int]]:
    return [list(range(end - targets.stride + 1, end + 1)) for end in targets.ends.tolist()]


@given(
    st.lists(st.integers(1, 150), min_size=1, max_size=12),
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_fixed_targets_are_all_whole_tails(lengths: list[int], context: int, stride: int, seed: int) -> None:
    tails, _ = eligible(lengths, context, stride)
    if len(tails) * stride < FEWEST_TARGETS:
        with pytest.raises(PosxError):
            choose(lengths, context, stride, seed=seed)
        return
    targets = choose(lengths, context, stride, seed=seed)
    assert tails_of(targets) == tails
    assert targets.documents.tolist() == [home(tail[-1], lengths) for tail in tails]
    assert targets.n_targets == targets.available == sum(map(len, tails))
    assert (targets.stride, targets.target_context) == (stride, context)


@given(st.lists(st.integers(1, 150), min_size=1, max_size=12), st.integers(1, 60), st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_every_ragged_rest_is_counted(lengths: list[int], context: int, stride: int) -> None:
    """Also that of a document whose rest is all it has."""
    tails, left = eligible(lengths, context, stride)
    if len(tails) * stride >= FEWEST_TARGETS:
        assert choose(lengths, context, stride).left_out == left


@given(
    st.lists(st.integers(1, 150), min_size=1, max_size=12),
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(1, 400),
    st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_a_bound_takes_whole_tails_evenly_from_documents(
    lengths: list[int], context: int, stride: int, most: int, seed: int
) -> None:
    tails, _ = eligible(lengths, context, stride)
    if len(tails) * stride < FEWEST_TARGETS:
        return
    targets = choose(lengths, context, stride, most, seed)
    taken = tails_of(targets)
    assert taken == sorted(taken)
    assert len({tuple(tail) for tail in taken}) == len(taken)
    assert all(tail in tails for tail in taken)
    assert len(taken) == min(len(tails), max(1, most // stride)), "as many whole tails as there is room for"
    has = [sum(home(tail[-1], lengths) == d for tail in tails) for d in range(len(lengths))]
    gives = [sum(home(tail[-1], lengths) == d for tail in taken) for d in range(len(lengths))]
    share = max(gives)
    assert all(give == have or give >= share - 1 for give, have in zip(gives, has, strict=True)), (
        "who gives less than another by more than one has no more"
    )
    assert targets.available == len(tails) * stride


def test_tails_are_drawn_and_not_taken_from_the_front() -> None:
    """Over seeds, each tail of a document is equally likely, and each document for the last share."""
    lengths = [40, 40, 40]
    draws = [choose(lengths, 10, 3, 60, seed=seed) for seed in range(400)]  # 20 of 30 tails: 7, 7, 6
    counts = np.zeros(120)
    for targets in draws:
        counts[targets.ends] += 1
    counts = counts[counts > 0]
    assert len(counts) == 30
    assert abs(chi_square(counts)) < 4.5
    sixes = np.array([np.bincount(t.documents, minlength=3).argmin() for t in draws])
    assert chi_square(np.bincount(sixes, minlength=3)) < 4.5


@given(
    st.lists(st.integers(40, 150), min_size=2, max_size=8),
    st.integers(9, 30),
    st.integers(1, 9),
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
)
@settings(max_examples=100, deadline=None)
def test_windows_of_all_lengths_end_at_the_same_targets(
    lengths: list[int], context: int, stride: int, asked: list[int]
) -> None:
    tails, _ = eligible(lengths, context, stride)
    if len(tails) * stride < FEWEST_TARGETS:
        return
    targets = choose(lengths, context, stride)
    for length in {context, *asked}:
        if not stride <= length <= context:
            continue
        windows = windows_of_targets(targets, length)
        assert scored(windows) == tails
        for start, size, tail in zip(windows.starts, windows.lengths, tails, strict=True):
            document = home(tail[0], lengths)
            assert size == length
            assert home(int(start), lengths) == document, "it would read another document"
            assert home(int(start) + length, lengths) == document
            # Its first target sees ℓ − S + 1 tokens before it, its last all ℓ.
            assert (tail[0] - start, tail[-1] - start) == (length - stride + 1, length)
        assert windows.documents.tolist() == targets.documents.tolist()


HASHED: dict[str, dict[str, Any]] = {
    "corpus": {"corpus": {"sha256": "other"}},
    "tokenizer": {"corpus": {"tokenizer_sha256": "other"}},
    "split": {"split": "validation"},
    "target_context": {"target_context": 21},
    "stride": {"stride": 4},
    "number": {"max_targets": 61},
    "seed": {"seed": 1},
    "chosen positions": {"lengths": [90, 50, 71]},
}


def hashed(
    lengths: Sequence[int] = (90, 50, 70),
    corpus: dict[str, str] | None = None,
    split: str = "test",
    **changes: int,
) -> str:
    asked = {"target_context": 20, "stride": 3, "max_targets": 60, "seed": 0, **changes}
    return fixed_targets(by_hand(lengths, split, **(corpus or {})), split, **asked).sha256


@pytest.mark.parametrize("what", HASHED)
def test_the_hash_covers(what: str) -> None:
    assert hashed(**HASHED[what]) != hashed()


def test_the_hash_is_the_same_for_the_same() -> None:
    assert hashed() == hashed()
    corpus = by_hand([90, 50, 70])
    moved = replace(corpus, path=corpus.path / "moved", facts={"notes": ["other"]})
    assert fixed_targets(moved, "test", 20, 3, 60, 0).sha256 == hashed()


@given(
    st.lists(st.integers(1, 120), min_size=1, max_size=8),
    st.integers(1, 130),
    st.integers(1, 9),
)
@settings(max_examples=200, deadline=None)
def test_too_few_targets_names_the_longest_context_that_works(lengths: list[int], context: int, stride: int) -> None:
    works = [c for c in range(1, context) if len(eligible(lengths, c, stride)[0]) * stride >= FEWEST_TARGETS]
    if len(eligible(lengths, context, stride)[0]) * stride >= FEWEST_TARGETS:
        return
    corpus: Corpus = by_hand(lengths)
    with pytest.raises(PosxError) as caught:
        fixed_targets(corpus, "test", context, stride, 4096, 0)
    assert f"longest document has {max(lengths)} tokens" in caught.value.message
    assert "test split" in caught.value.message
    if not works:
        assert "longer documents" in caught.value.hint
        return
    longest = max(works)
    assert f"eval.target_context={longest}." in caught.value.hint
    assert fixed_targets(corpus, "test", longest, stride, 4096, 0).n_targets >= FEWEST_TARGETS
