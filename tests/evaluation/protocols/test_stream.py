"""Tests of ``posx.evaluation.protocols.stream``."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.corpora import by_hand
from fixtures.recomputed_runs import (
    CONTEXT,
    Trained,
    assert_losses,
    copy_without_records,
    evaluate_run,
    folder,  # noqa: F401 - a fixture
    rope,  # noqa: F401
)
from fixtures.window_texts import LENGTHS, cut, home, scored
from posx.evaluation.protocols.stream import stream


@given(LENGTHS, st.integers(1, 70))
@settings(max_examples=150, deadline=None)
def test_stream_scores_every_token_but_the_first(lengths: list[int], length: int) -> None:
    windows = stream(by_hand(lengths).splits["test"], length)
    expected = cut(0, sum(lengths), length)
    assert list(zip(windows.starts.tolist(), scored(windows), strict=True)) == expected
    assert windows.lengths.tolist() == windows.scored.tolist() == [len(tokens) for _, tokens in expected]
    assert windows.documents.tolist() == [home(tokens[0], lengths) for _, tokens in expected]
    assert [token for tokens in scored(windows) for token in tokens] == list(range(1, sum(lengths)))


@pytest.mark.parametrize("length", [CONTEXT, 37])
def test_stream(rope: Trained, tmp_path: Path, length: int) -> None:
    """Documents joined into one stream that is cut into windows of ℓ."""
    own = copy_without_records(rope, tmp_path)
    record = evaluate_run(own, length, protocol="stream")[length]
    stream = [token for ids in own.documents for token in ids]
    places = [(d, n) for d, ids in enumerate(own.documents) for n in range(len(ids))]
    expected = {}
    for first in range(0, len(stream), length):
        for target in range(first + 1, min(first + length, len(stream) - 1) + 1):
            expected[(*places[target], target - first)] = own.nats(stream, first, target)
    assert len(expected) == len(stream) - 1
    assert_losses(own, record, expected)
