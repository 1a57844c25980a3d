"""Tests of ``posx.verify.oracles.layer``."""

from __future__ import annotations

from typing import Any

import torch

from posx.verify.oracles import papers as written
from posx.verify.oracles.layer import TOLERANCE, Comparison, Layer, by_layer


def test_a_comparison_detects_a_wrong_slope() -> None:
    """The slope of one head is wrong by 1%; one distance is wrong by 1."""

    def difference(change: Any) -> float:
        def expected(a: Layer) -> torch.Tensor:
            slopes = written.alibi_slopes(a.heads)
            return written.attention(a.q, a.k, a.v, lambda b, h, i, j: change(slopes, h, i - j))

        return Comparison("alibi", "a broken one", by_layer("alibi", expected)).difference()

    assert difference(lambda slopes, h, d: -slopes[h] * d) <= TOLERANCE
    assert difference(lambda slopes, h, d: -slopes[h] * d * (1.01 if h == 0 else 1)) > 10 * TOLERANCE
    assert difference(lambda slopes, h, d: -slopes[h] * (d + (d == 3))) > 10 * TOLERANCE
