"""Which tokens are read and scored, held against enumerations in plain Python."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_helpers import by_hand
from posx.config.lengths import parse_length
from posx.config.schema import IGNORED
from posx.data.corpus import Corpus
from posx.data.sampling import Slices, check_long_enough
from posx.errors import PosxError
from posx.evaluation.protocols.base import Windows
from posx.evaluation.protocols.fixed_targets import FEWEST_TARGETS, TargetSet, fixed_targets, windows_of_targets
from posx.evaluation.protocols.non_overlapping import non_overlapping
from posx.evaluation.protocols.stream import stream

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=12)


def bounds(lengths: list[int]) -> list[tuple[int, int]]:
    """First token and the one after the last, of each document. Token n of the split is the number n."""
    out, first = [], 0
    for length in lengths:
        out.append((first, first + length))
        first += length
    return out


def home(token: int, lengths: list[int]) -> int:
    """The document of a token."""
    return next(d for d, (first, end) in enumerate(bounds(lengths)) if first <= token < end)


# ---------------------------------------------------------------- training


@given(LENGTHS.filter(lambda lengths: max(lengths) >= 2), st.integers(1, 40), st.integers(0, 2**40))
@settings(max_examples=150, deadline=None)
def test_a_slice_lies_in_one_document(lengths: list[int], context: int, seed: int) -> None:
    split = by_hand(lengths).splits["test"]
    tokens, targets = Slices(split, context).batch(seed, 3, 8)
    assert tokens.shape == targets.shape == (8, context)
    assert tokens.dtype == targets.dtype == np.int64
    for row, wanted in zip(tokens.tolist(), targets.tolist(), strict=True):
        first, end = bounds(lengths)[home(row[0], lengths)]
        real = min(context, end - first - 1)
        assert row[0] == first if end - first <= context + 1 else first <= row[0] < end - context
        assert wanted[:real] == list(range(row[0] + 1, row[0] + 1 + real)), "the next token of the same document"
        assert wanted[real:] == [IGNORED] * (context - real)
        assert row[: real + 1] == list(range(row[0], row[0] + real + 1))[:context]
        assert not any(row[real + 1 :]), "inputs past a document's end hold no other document"


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    split = by_hand([70, 5, 1, 33]).splits["test"]
    asked = [(seed, step) for seed in (0, 1, 2**33) for step in (0, 1, 999)]
    forwards = {key: Slices(split, 16).batch(*key, 4)[0].tolist() for key in asked}
    slices = Slices(split, 16)
    np.random.seed(5)
    backwards = {key: slices.batch(*key, 4)[0].tolist() for key in reversed(asked)}
    assert forwards == backwards


def test_every_start_is_equally_likely() -> None:
    """Chi-square over all starts, those of short documents too; and steps and seeds are independent draws."""
    lengths, context, size = [5, 30, 18, 1, 2, 17, 16], 16, 50
    # A window reads 17 tokens: 30 − 16 starts, 18 − 16, and one for each document that it covers whole.
    starts = [0, *range(5, 19), 35, 36, 54, 56, 73]
    slices = Slices(by_hand(lengths).splits["test"], context)
    draws = [slices.batch(seed, step, size)[0][:, 0] for seed in range(20) for step in range(40)]
    seen, counts = np.unique(np.concatenate(draws), return_counts=True)
    assert seen.tolist() == starts
    assert chi_square(counts) < 4.5, "so many standard deviations above its mean"
    # Among 40 steps, or 20 seeds, no two share a batch.
    assert len({d.tobytes() for d in draws}) == 800


def chi_square(counts: np.ndarray) -> float:
    """How many standard deviations the statistic lies above its mean, if all are equally likely."""
    expected = counts.sum() / len(counts)
    freedom = len(counts) - 1
    return float(((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom)


def test_a_context_that_no_document_fills_is_refused_with_the_longest() -> None:
    corpus = by_hand([5, 30, 18], "train")
    check_long_enough(corpus, 29)
    with pytest.raises(PosxError, match="at most 29") as caught:
        check_long_enough(corpus, 30)
    assert "train.context=30" in str(caught.value)


# ---------------------------------------------------------------- lengths


@pytest.mark.parametrize(
    "text, context, tokens",
    [
        ("3000", 64, 3000),
        ("1", 64, 1),
        ("007", 64, 7),
        (" 12 ", 64, 12),
        ("1x", 64, 64),
        ("1.0x", 64, 64),
        ("2x", 64, 128),
        ("1.5x", 64, 96),
        ("1.25x", 64, 80),
        ("1.1x", 10, 11),
        ("1.1x", 640, 704),
        ("16x", 7, 112),
        ("1.3x", 100, 130),
        ("2.3x", 1000, 2300),
    ],
)
def test_a_length_is_tokens_or_a_multiple(text: str, context: int, tokens: int) -> None:
    assert parse_length(text, context) == tokens


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "not a length"),
        ("x", "not a length"),
        ("-3", "not a length"),
        ("-2x", "not a length"),
        ("1e3", "not a length"),
        ("3.5", "not a length"),
        (".5x", "not a length"),
        ("2x2", "not a length"),
        ("x2", "not a length"),
        ("two", "not a length"),
        ("nan", "not a length"),
        ("1_000", "not a length"),
        ("0", "0 tokens"),
        ("0x", "at least 1"),
        ("0.5x", "give tokens: 32"),
        ("0.99x", "at least 1"),
        ("1.1x", "70 or 71"),
        ("1.001x", "64 or 65"),
    ],
)
def test_what_is_no_length_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(PosxError) as caught:
        parse_length(text, 64)
    assert sentence in str(caught.value)
    assert caught.value.hint


# ---------------------------------------------------------------- fixed targets


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


def scored(windows: Windows) -> list[list[int]]:
    """Tokens that each window scores: its last predictions."""
    rows = zip(windows.starts.tolist(), windows.lengths.tolist(), windows.scored.tolist(), strict=True)
    return [[start + length - count + 1 + n for n in range(count)] for start, length, count in rows]


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
    lengths: list[int] = [90, 50, 70],
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


# ---------------------------------------------------------------- the other protocols


def cut(first: int, end: int, length: int) -> list[tuple[int, list[int]]]:
    """Windows over a text: (first input, tokens scored), one after another, ragged tail included."""
    out = []
    while first + 1 < end:
        targets = [token for token in range(first + 1, first + 1 + length) if token < end]
        out.append((first, targets))
        first = targets[-1]
    return out


@given(LENGTHS, st.integers(1, 70))
@settings(max_examples=150, deadline=None)
def test_non_overlapping_scores_every_token_but_the_first_of_a_document(lengths: list[int], length: int) -> None:
    windows = non_overlapping(by_hand(lengths).splits["test"], length)
    expected = [window for first, end in bounds(lengths) for window in cut(first, end, length)]
    assert list(zip(windows.starts.tolist(), scored(windows), strict=True)) == expected
    assert windows.lengths.tolist() == windows.scored.tolist() == [len(tokens) for _, tokens in expected]
    assert windows.documents.tolist() == [home(tokens[0], lengths) for _, tokens in expected]
    every = sorted(token for tokens in scored(windows) for token in tokens)
    assert every == [token for first, end in bounds(lengths) for token in range(first + 1, end)]


@given(LENGTHS, st.integers(1, 70))
@settings(max_examples=150, deadline=None)
def test_stream_scores_every_token_but_the_first(lengths: list[int], length: int) -> None:
    windows = stream(by_hand(lengths).splits["test"], length)
    expected = cut(0, sum(lengths), length)
    assert list(zip(windows.starts.tolist(), scored(windows), strict=True)) == expected
    assert windows.lengths.tolist() == windows.scored.tolist() == [len(tokens) for _, tokens in expected]
    assert windows.documents.tolist() == [home(tokens[0], lengths) for _, tokens in expected]
    assert [token for tokens in scored(windows) for token in tokens] == list(range(1, sum(lengths)))
