"""Tests of ``posx.evaluation.scorer``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.evaluated_runs import (
    Trained,
    ask,
    cell,
    fresh,
    rope,  # noqa: F401
    stored,
)


@pytest.mark.parametrize("protocol", ["fixed-targets", "non-overlapping"])
def test_batch_tokens_change_rounding_alone(rope: Trained, tmp_path: Path, protocol: str) -> None:
    settings: dict[str, Any] = {"protocol": protocol, "stride": 3, "target_context": 40}
    found = []
    for number, batch in enumerate((1, 100, 16384)):
        (tmp_path / str(number)).mkdir()
        own = fresh(rope, tmp_path / str(number))
        record = cell(ask(own.run, ["33"], batch_tokens=batch, **settings), 33)
        found.append((record, stored(own.run, record)))
    first, kept = found[0]
    for record, values in found[1:]:
        assert values.keys() == kept.keys()
        assert max(abs(values[k].nats - kept[k].nats) for k in kept) < 5e-6
        assert record.nats == pytest.approx(first.nats, rel=1e-6)
        assert (record.bytes, record.targets_sha256) == (first.bytes, first.targets_sha256)
