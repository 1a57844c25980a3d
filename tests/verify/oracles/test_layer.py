"""Tests of ``posx.verify.oracles.layer``."""

from __future__ import annotations

from typing import Any

import torch

from posx.verify.oracles import papers as written
from posx.verify.oracles.layer import TOLERANCE, Comparison, Layer, by_layer


def test_a_comparison_sees_a_wrong_slope() -> None:
    """One head's slope off by a hundredth; one distance too many; a key too few."""

    def off(change: Any) -> float:
        def expected(a: Layer) -> torch.Tensor:
            slopes = written.alibi_slopes(a.heads)
            return written.attention(a.q, a.k, a.v, lambda b, h, i, j: change(slopes, h, i - j))

        return Comparison("alibi", "a broken one", by_layer("alibi", expected)).difference()

    assert off(lambda slopes, h, d: -slopes[h] * d) <= TOLERANCE
    assert off(lambda slopes, h, d: -slopes[h] * d * (1.01 if h == 0 else 1)) > 10 * TOLERANCE
    assert off(lambda slopes, h, d: -slopes[h] * (d + (d == 3))) > 10 * TOLERANCE
