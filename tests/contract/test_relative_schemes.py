"""Relative schemes depend on distances alone."""

from __future__ import annotations

import pytest
import torch

from fixtures.laws import ROUNDING, both_families, small_model
from fixtures.models import CONTEXT, RELATIVE, VARIANTS, gap, random_tokens

pytestmark = pytest.mark.every_processor


@torch.no_grad()
@both_families
@pytest.mark.parametrize("shift", [1, 37, 1000])
@pytest.mark.parametrize("name", [*RELATIVE, *VARIANTS])
def test_only_distances_matter(name: str, shift: int, family: str) -> None:
    """Shifting all positions by n does not change the output.

    In rope, an angle p·θ ≤ p of query and key is rounded in float32, by 2^-24 of p; two layers with logits of about
    10 amplify this about tenfold. Positions themselves are exact.
    """
    model, tokens = small_model(name, family), random_tokens(2 * CONTEXT)
    positions = torch.arange(2 * CONTEXT)
    moved = model(tokens, positions + shift)
    exact = "rope" not in name and name not in ("xpos", "layers", "ssmax")
    difference = gap(moved, model(tokens, positions))
    assert difference == 0 if exact else difference < ROUNDING + 20 * shift * 2**-23


@torch.no_grad()
@both_families
@pytest.mark.parametrize("name", sorted({*RELATIVE, *VARIANTS} - {"linear-rope"}))  # its weights are quotients
def test_values_are_untouched(name: str, family: str) -> None:
    """A single token attends to itself with weight 1, so its output is its value at every position."""
    model, token = small_model(name, family), random_tokens(1, batch=8)
    at_zero = model(token, torch.tensor([0]))
    for position in (1, 5, 300):
        assert torch.equal(model(token, torch.tensor([position])), at_zero)
