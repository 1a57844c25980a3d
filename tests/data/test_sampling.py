"""Tests of ``posx.data.sampling``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.corpora import by_hand
from fixtures.window_texts import LENGTHS, bounds, chi_square, home
from posx.config.schema import IGNORED
from posx.data.sampling import Slices, check_long_enough
from posx.errors import PosxError


@given(LENGTHS.filter(lambda lengths: max(lengths) >= 2), st.integers(1, 40), st.integers(0, 2**40))
@settings(max_examples=150, deadline=None)
def test_a_slice_is_within_one_document(lengths: list[int], context: int, seed: int) -> None:
    split = by_hand(lengths).splits["test"]
    tokens, targets = Slices(split, context).batch(seed, 3, 8)
    assert tokens.shape == targets.shape == (8, context)
    assert tokens.dtype == targets.dtype == np.int64
    for row, expected in zip(tokens.tolist(), targets.tolist(), strict=True):
        first, end = bounds(lengths)[home(row[0], lengths)]
        real = min(context, end - first - 1)
        assert row[0] == first if end - first <= context + 1 else first <= row[0] < end - context
        assert expected[:real] == list(range(row[0] + 1, row[0] + 1 + real)), "the next token of the same document"
        assert expected[real:] == [IGNORED] * (context - real)
        assert row[: real + 1] == list(range(row[0], row[0] + real + 1))[:context]
        assert not any(row[real + 1 :]), "inputs past a document's end hold no other document"


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    split = by_hand([70, 5, 1, 33]).splits["test"]
    keys = [(seed, step) for seed in (0, 1, 2**33) for step in (0, 1, 999)]
    forwards = {key: Slices(split, 16).batch(*key, 4)[0].tolist() for key in keys}
    slices = Slices(split, 16)
    np.random.seed(5)
    backwards = {key: slices.batch(*key, 4)[0].tolist() for key in reversed(keys)}
    assert forwards == backwards


def test_every_start_is_equally_likely() -> None:
    """Chi-square over all starts, including those of short documents. Steps and seeds are independent draws."""
    lengths, context, size = [5, 30, 18, 1, 2, 17, 16], 16, 50
    # A window reads 17 tokens: 30 − 16 starts, 18 − 16, and one for each document that fits into a window.
    starts = [0, *range(5, 19), 35, 36, 54, 56, 73]
    slices = Slices(by_hand(lengths).splits["test"], context)
    draws = [slices.batch(seed, step, size)[0][:, 0] for seed in range(20) for step in range(40)]
    seen, counts = np.unique(np.concatenate(draws), return_counts=True)
    assert seen.tolist() == starts
    assert chi_square(counts) < 4.5, "standard deviations above the mean of the statistic"
    # All batches of 20 seeds and 40 steps differ.
    assert len({d.tobytes() for d in draws}) == 800


def test_a_context_longer_than_any_document_is_refused() -> None:
    corpus = by_hand([5, 30, 18], "train")
    check_long_enough(corpus, 29)
    with pytest.raises(PosxError, match="at most 29") as caught:
        check_long_enough(corpus, 30)
    assert "train.context=30" in str(caught.value)
