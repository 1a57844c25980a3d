"""Tests of ``posx.extensions.pi``."""

from __future__ import annotations

import pytest
import torch

from fixtures.extension_models import LINEAR, LONG, assert_same
from fixtures.models import CONTEXT, extend, make_model, random_tokens
from posx.verify.oracles import host_models as hosts

pytestmark = pytest.mark.every_processor


@pytest.mark.parametrize("length", [CONTEXT + 1, 40, LONG])
def test_pi_is_linear_rope_of_llama(length: int) -> None:
    model = make_model("rope", family="llama", n_heads=4, n_kv_heads=2, head_dim=16)
    host = hosts.llama(model, {**LINEAR, "factor": length / CONTEXT})
    assert_same(model, extend(model, length, pi={}), host, length)


@pytest.mark.parametrize("scheme, fraction", [("rope", 1.0), ("partial-rope", 0.25), ("partial-rope", 0.5)])
def test_pi_is_linear_rope_of_neox(scheme: str, fraction: float) -> None:
    model = make_model(scheme, fraction=fraction)
    host = hosts.neox(model, {**LINEAR, "factor": 4.0, "partial_rotary_factor": fraction})
    assert_same(model, extend(model, LONG, pi={}), host, LONG)


@pytest.mark.parametrize("length", [7, CONTEXT, LONG])
@pytest.mark.parametrize("s", [1.0, 2.5, 8.0])
def test_pi_with_a_fixed_scale(length: int, s: float) -> None:
    """A fixed s acts at every length, including short ones."""
    model = make_model("rope", family="llama")
    extension = extend(model, length, pi={"s": s})
    assert extension.resolved() == {"pi": {"s": s}}
    assert_same(model, extension, hosts.llama(model, {**LINEAR, "factor": s}), length)


@torch.no_grad()
def test_pi_is_dividing_positions() -> None:
    """θ/s at p and θ at p/s; s is a power of two, so that both are exact."""
    model = make_model("rope")
    tokens, positions = random_tokens(LONG), torch.arange(LONG)
    divided = model(tokens, positions / 4)
    assert torch.equal(model(tokens, extension=extend(model, LONG, pi={})), divided)
