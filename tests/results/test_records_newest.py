"""Tests of ``posx.results.records``: newest."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.evaluated_runs import (
    CONTEXT,
    Trained,
    ask,
    change_weights,
    fresh,
    rope,  # noqa: F401
)
from posx.results.aggregate import aggregate
from posx.results.records import read_records


def test_a_table_shows_the_newest_weights(rope: Trained, tmp_path: Path) -> None:
    """Evaluated half way and again at the end, a run has records of both; only the last are its own."""
    own, lengths = fresh(rope, tmp_path), ["1x", "18", "20", "24", "28", "2x"]
    ask(own.run, lengths, target_context=40)
    change_weights(own.run)
    newest = {r.length: r for r in ask(own.run, lengths, target_context=40)}
    cells = aggregate(read_records(tmp_path, []))
    control = newest[CONTEXT].nats_per_token
    assert control is not None
    assert {c.length: c.nats_per_token for c in cells} == {n: r.nats_per_token for n, r in newest.items()}
    for found in cells:
        expected = newest[found.length].nats_per_token
        assert expected is not None
        assert found.delta == pytest.approx(expected - control, abs=1e-9)
