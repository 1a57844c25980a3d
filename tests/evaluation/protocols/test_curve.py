"""Tests of ``posx.evaluation.protocols.curve``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fixtures.recomputed_runs import (
    CONTEXT,
    Trained,
    alibi,  # noqa: F401
    assert_losses,
    copy_without_records,
    evaluate_run,
    folder,  # noqa: F401 - a fixture
    rope,  # noqa: F401
    sampled_tails,
    stored_losses,
)


@pytest.mark.parametrize("scheme, length", [("rope", CONTEXT), ("rope", 37), ("alibi", 23)])
def test_curve(request: pytest.FixtureRequest, tmp_path: Path, scheme: str, length: int) -> None:
    """Whole windows are scored: a target at context c has exactly the c tokens before it, from c = 1 to ℓ."""
    own = copy_without_records(request.getfixturevalue(scheme), tmp_path)
    records = evaluate_run(own, length, protocol="curve", stride=13, max_targets=65)
    assert list(records) == [length]
    tails = sampled_tails(own, records[length])
    assert len(tails) == 5
    expected = {}
    for d, last in tails:
        for context in range(1, length + 1):
            target = last - length + context
            expected[d, target, context] = own.nats(own.documents[d], target - context, target)
    assert_losses(own, records[length], expected)
    by_context = Counter(context for _, _, context in stored_losses(records[length]))
    assert by_context == dict.fromkeys(range(1, length + 1), 5)


def test_curves_of_unlike_lengths_are_not_the_same_targets(rope: Trained, tmp_path: Path) -> None:
    """Their targets differ, and so must their hashes; and that of the tails alone."""
    own = copy_without_records(rope, tmp_path)
    asked: dict[str, Any] = {"stride": 13, "max_targets": 65}
    curves = evaluate_run(own, CONTEXT, 37, protocol="curve", **asked)
    tails = evaluate_run(own, 37, **asked)
    assert len({r.targets_sha256 for r in [*curves.values(), *tails.values()]}) == 3
    assert {r.n_targets for r in tails.values()} == {65}
