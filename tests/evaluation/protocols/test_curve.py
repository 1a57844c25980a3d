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
    ask,
    drawn,
    folder,  # noqa: F401 - a fixture
    fresh,
    kept,
    rope,  # noqa: F401
    same,
)


@pytest.mark.parametrize("scheme, length", [("rope", CONTEXT), ("rope", 37), ("alibi", 23)])
def test_curve(request: pytest.FixtureRequest, tmp_path: Path, scheme: str, length: int) -> None:
    """Whole windows are scored: a target at context c has exactly the c tokens before it, from c = 1 to ℓ."""
    own = fresh(request.getfixturevalue(scheme), tmp_path)
    records = ask(own, length, protocol="curve", stride=13, max_targets=65)
    assert list(records) == [length]
    tails = drawn(own, records[length])
    assert len(tails) == 5
    expected = {}
    for d, last in tails:
        for context in range(1, length + 1):
            target = last - length + context
            expected[d, target, context] = own.nats(own.documents[d], target - context, target)
    same(own, records[length], expected)
    by_context = Counter(context for _, _, context in kept(records[length]))
    assert by_context == dict.fromkeys(range(1, length + 1), 5)


def test_curves_of_unlike_lengths_are_not_the_same_targets(rope: Trained, tmp_path: Path) -> None:
    """Their targets differ, and so must their hashes; and that of the tails alone."""
    own = fresh(rope, tmp_path)
    asked: dict[str, Any] = {"stride": 13, "max_targets": 65}
    curves = ask(own, CONTEXT, 37, protocol="curve", **asked)
    tails = ask(own, 37, **asked)
    assert len({r.targets_sha256 for r in [*curves.values(), *tails.values()]}) == 3
    assert {r.n_targets for r in tails.values()} == {65}
