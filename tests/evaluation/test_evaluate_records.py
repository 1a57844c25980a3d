"""Tests of ``posx.evaluation.evaluate``: records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.evaluated_runs import (
    SPLIT,
    Trained,
    ask,
    by_fixed_targets,
    cell,
    change_weights,
    fresh,
    learned,  # noqa: F401
    rope,  # noqa: F401
    same,
)
from posx.results.records import read_record


def test_records_are_kept_until_the_weights_change(rope: Trained, tmp_path: Path) -> None:
    own = fresh(rope, tmp_path)
    settings: dict[str, Any] = {"stride": 3, "target_context": 40}
    first = cell(ask(own.run, ["2x"], **settings), 32)
    files = {p: p.stat().st_mtime_ns for p in (own.run.path / "eval").iterdir()}
    assert ask(own.run, ["2x"], **settings) == ask(own.run, ["2x"], batch_tokens=64, **settings)
    assert {p: p.stat().st_mtime_ns for p in (own.run.path / "eval").iterdir()} == files

    digest = change_weights(own.run)
    again = cell(ask(own.run, ["2x"], **settings), 32)
    assert again.checkpoint_sha256 == digest != first.checkpoint_sha256
    same(own, again, by_fixed_targets(own, 32, 3, 40))


@pytest.mark.parametrize("change", ["split", "stride", "target_context", "seed", "max_targets", "protocol"])
def test_another_question_gets_another_record(rope: Trained, tmp_path: Path, change: str) -> None:
    own = fresh(rope, tmp_path)
    asked: dict[str, Any] = {"stride": 3, "target_context": 40, "seed": 0, "max_targets": 60, "split": SPLIT}
    other = {"split": "validation", "stride": 2, "target_context": 41, "seed": 1, "max_targets": 57}
    other["protocol"] = "non-overlapping"
    first, second = (ask(own.run, ["1x"], **a)[0] for a in (asked, {**asked, change: other[change]}))
    assert second.targets_sha256 != first.targets_sha256
    if change != "seed":  # a record's seed is that of its run
        assert (getattr(first, change), getattr(second, change)) == (
            asked.get(change, "fixed-targets"),
            other[change],
        )
    assert len(list((own.run.path / "eval").glob("*.json"))) == 2


def test_learned_past_its_table_is_a_record_with_a_reason(learned: Trained, tmp_path: Path) -> None:
    own = fresh(learned, tmp_path)
    records = ask(own.run, ["1x", "2x"], target_context=40)
    past, control = cell(records, 32), cell(records, 16)
    assert (past.status, past.nats) == ("unsupported", None)
    assert "16" in past.reason
    assert "interpolate" in past.reason
    assert control.status == "ok"
    assert past.targets_sha256 == control.targets_sha256
    assert [r for r in map(read_record, (own.run.path / "eval").glob("*.json")) if r == past]
