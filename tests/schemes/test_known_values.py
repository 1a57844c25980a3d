"""Tests of all schemes against values known from the papers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fixtures.models import make_scheme, rotated
from fixtures.scheme_formulas import bias, scheme_of, set_values
from posx.config.schema import ModelConfig

FIRE = {"c": [1.0], "multiple": [1.0], "first.weight": [2.0], "first.bias": [-0.5], "second.weight": [3.0]}


KNOWN: list[tuple[str, int, dict[str, Any], dict[str, list[float]], dict[tuple[int, int, int], float]]] = [
    # −ln(9) / 2, −ln(3) / 2; −d² / 2; with a power of 1 ALiBi, and 257 is no number of bf16.
    ("kerple-log", 1, {}, {"r1": [0.5], "r2": [2.0]}, {(0, 4, 0): -1.0986123, (0, 9, 8): -0.5493061, (0, 3, 3): 0}),
    ("kerple-power", 1, {}, {"r1": [0.5], "r2": [2.0]}, {(0, 4, 0): -8, (0, 9, 6): -4.5, (0, 3, 3): 0}),
    ("kerple-power", 1, {}, {"r1": [0.5], "r2": [1.0]}, {(0, 4, 0): -2, (0, 257, 0): -128.5}),
    # cos(d / 10) + cos(d / 100); heads 1 and 4 of 4 divide it by 2 and by 8.
    ("sandwich", 4, {"width": 4, "base": 100.0}, {}, {(0, 10, 0): 0.7676532, (3, 10, 0): 0.1919133, (3, 9, 9): 0.25}),
    # 3 · relu(2 · share − 1/2), shares ln 4 / ln 8, below T = 3 ln 3 / ln 4, and 0.
    ("fire", 1, {"hidden": 1, "threshold": 3.0}, FIRE, {(0, 7, 4): 2.5, (0, 2, 0): 3.2548875, (0, 7, 7): 0}),
]


@torch.no_grad()
@pytest.mark.parametrize(("name", "heads", "settings", "values", "known"), KNOWN)
def test_known_biases(name: str, heads: int, settings: Any, values: Any, known: Any) -> None:
    """To 1e-5, of which fire's ε takes 5e-6."""
    scheme = scheme_of(name, heads, **settings)
    for parameter, value in values.items():
        set_values(scheme.get_parameter(parameter), value)
    found = bias(scheme, torch.arange(258))[0]
    assert {where: float(found[where]) for where in known} == pytest.approx(known, abs=1e-5)


def test_known_rotations() -> None:
    """p-rope: 10000^(−2k/8), half of them. xpos, θ = 1 and ζ = 2/7: cos(512) · 2/7, cos(1) · (2/7)^(1/512)."""
    scheme = make_scheme("p-rope", ModelConfig(d_model=8, n_heads=1), kept=0.5)
    assert scheme.frequencies().tolist() == pytest.approx([1.0, 0.1, 0.0, 0.0])
    one = torch.tensor([1.0, 0.0]).expand(1, 1, 513, 2)
    q, k = rotated(make_scheme("xpos", ModelConfig(d_model=2, n_heads=1)), one, one, torch.arange(513))
    assert (q @ k.mT)[0, 0, 512, [0, 511, 512]].tolist() == pytest.approx([-0.2848095, 0.5389819, 1.0], abs=1e-4)
