"""Tests of ``posx.evaluation.evaluate``: cells."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.evaluated_runs import (
    Key,
    Target,
    Trained,
    ask,
    by_fixed_targets,
    cell,
    fresh,
    host_of,
    learned,  # noqa: F401
    rope,  # noqa: F401
    same,
    stored,
    target_of,
)
from posx.results.records import read_record


def by_non_overlapping(trained: Trained, length: int) -> dict[Key, Target]:
    host, found = host_of(trained.run), {}
    for d, ids in enumerate(trained.documents):
        for target in range(1, len(ids)):
            start = (target - 1) // length * length
            found[d, target] = target_of(host, ids[start:target], ids[target])
    return found


def by_stream(trained: Trained, length: int) -> dict[Key, Target]:
    host, found = host_of(trained.run), {}
    places = [(d, n) for d, ids in enumerate(trained.documents) for n in range(len(ids))]
    ids = [token for document in trained.documents for token in document]
    for target in range(1, len(ids)):
        start = (target - 1) // length * length
        found[places[target]] = target_of(host, ids[start:target], ids[target])
    return found


@pytest.mark.parametrize("stride, least", [(1, 52), (5, 37)])
def test_fixed_targets_of_rope(rope: Trained, tmp_path: Path, stride: int, least: int) -> None:
    own = fresh(rope, tmp_path)
    records = ask(own.run, ["1x", "23", "37"], stride=stride, target_context=least)
    expected = {length: by_fixed_targets(own, length, stride, least) for length in (16, 23, 37)}
    assert len(expected[16]) >= 64
    for length, targets in expected.items():
        same(own, cell(records, length), targets)
    (digest,) = {r.targets_sha256 for r in records}
    assert len(digest) == 64
    # The oracle would not notice a window of another length if it made no difference.
    assert max(abs(expected[16][k].nats - expected[23][k].nats) for k in expected[16]) > 1e-3


def test_the_window_of_an_extension_holds_too(rope: Trained, tmp_path: Path) -> None:
    own = fresh(rope, tmp_path)
    records = ask(own.run, ["2x"], extensions=["pi"], stride=3, target_context=40)
    same(own, cell(records, 32, "pi"), by_fixed_targets(own, 32, 3, 40, factor=2.0))


def test_fixed_targets_of_learned(learned: Trained, tmp_path: Path) -> None:
    own = fresh(learned, tmp_path)
    records = ask(own.run, ["1x", "9"], stride=4, target_context=33, batch_tokens=50)
    for length in (9, 16):
        same(own, cell(records, length), by_fixed_targets(own, length, 4, 33))


@pytest.mark.parametrize("length", [16, 41, 150])
@pytest.mark.parametrize("protocol, oracle", [("non-overlapping", by_non_overlapping), ("stream", by_stream)])
def test_protocols_that_score_every_token(
    rope: Trained,
    tmp_path: Path,
    protocol: str,
    oracle: Callable[[Trained, int], dict[Key, Target]],
    length: int,
) -> None:
    own = fresh(rope, tmp_path)
    records = ask(own.run, [str(length)], protocol=protocol)
    same(own, cell(records, length), oracle(own, length))


def test_the_same_targets_at_every_length(rope: Trained, tmp_path: Path) -> None:
    """Drawn ones too, in the same order."""
    own = fresh(rope, tmp_path)
    records = ask(own.run, ["1x", "2x", "40"], stride=2, target_context=40, max_targets=50, seed=3)
    assert sorted(r.length for r in records) == [16, 32, 40]
    keys = [list(stored(own.run, r)) for r in records]
    assert keys[0] == keys[1] == keys[2]
    assert len(keys[0]) == 50 == records[0].n_targets
    assert all(position >= 40 for _, position in keys[0])
    assert len({r.targets_sha256 for r in records}) == 1
    assert len({r.bytes for r in records}) == 1
    other = cell(ask(own.run, ["1x"], stride=2, target_context=40, max_targets=50, seed=4), 16)
    assert list(stored(own.run, other)) != keys[0]
    assert other.targets_sha256 != records[0].targets_sha256


def test_the_control_is_there_unasked(rope: Trained, tmp_path: Path) -> None:
    own = fresh(rope, tmp_path)
    records = ask(own.run, ["2x"], extensions=["pi"], target_context=40)
    assert {(r.length, r.extension) for r in records} == {(32, "pi"), (16, "none")}
    control = cell(records, 16)
    kept = {read_record(p).length: read_record(p) for p in (own.run.path / "eval").glob("*.json")}
    assert kept[16] == control
    assert control.nats == pytest.approx(math.fsum(t.nats for t in by_fixed_targets(own, 16, 1, 40).values()), rel=1e-6)
