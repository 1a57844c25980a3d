"""Tests of ``posx.evaluation.protocols.non_overlapping``."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.corpora import by_hand
from fixtures.recomputed_runs import (
    CONTEXT,
    Trained,
    alibi,  # noqa: F401 - a fixture
    assert_losses,
    copy_without_records,
    either,  # noqa: F401
    evaluate_run,
    folder,  # noqa: F401 - a fixture
    rope,  # noqa: F401 - a fixture
)
from fixtures.window_texts import LENGTHS, bounds, cut, home, scored
from posx.evaluation.protocols.non_overlapping import non_overlapping


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


@pytest.mark.parametrize("length", [5, CONTEXT, 37, 3 * CONTEXT])
def test_non_overlapping(either: Trained, tmp_path: Path, length: int) -> None:
    """Each document is cut into windows of ℓ, every token but its first is scored, ragged tails included."""
    own = copy_without_records(either, tmp_path)
    record = evaluate_run(own, length, protocol="non-overlapping")[length]
    expected = {}
    for d, ids in enumerate(own.documents):
        first = 0
        while first + 1 < len(ids):
            for target in range(first + 1, min(first + length, len(ids) - 1) + 1):
                expected[d, target, target - first] = own.nats(ids, first, target)
            first += length
    assert len(expected) == sum(len(ids) - 1 for ids in own.documents)
    assert {c for _, _, c in expected} == set(range(1, length + 1))
    assert_losses(own, record, expected)
    assert (record.stride, record.target_context, record.max_targets) == (None, None, None)
