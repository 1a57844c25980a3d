"""Tests of ``posx.models.attention.sdpa``."""

from __future__ import annotations

import pytest
import torch

import posx.models.attention.blockwise
import posx.models.attention.context
import posx.models.attention.dense
import posx.models.attention.dispatch
import posx.models.attention.sdpa
import posx.models.attention.tiled
import posx.models.loss
from fixtures.laws import small_model
from fixtures.models import gap
from posx.extensions.base import NONE
from posx.models.attention.context import Call
from posx.models.attention.dispatch import plan

BF16_ROUNDING = 3e-2  # of outputs of size 1: products of bf16 values, softmax weights and the result rounded


@torch.inference_mode()
@pytest.mark.parametrize("name", ["t5", "alibi"])
def test_bias_stays_float32_with_bf16(name: str) -> None:
    """In bf16, the differences within a bias of 300 ± 0.5 would be lost.

    Only queries, keys, values and weights are rounded: by 2^-9 each, where a lost bias moves logits by up to 1.
    """
    torch.manual_seed(0)
    scheme, length, heads, width = small_model(name, "gpt").scheme, 70, 4, 16
    if name == "t5":
        scheme.table.uniform_(299.5, 300.5)
    else:
        scheme.slopes.copy_(torch.tensor([3.01, 1.003, 0.507, 0.253])[: len(scheme.slopes)])
    heads = scheme.shape.n_heads
    q, k, v = (torch.randn(2, heads, length, width) for _ in range(3))
    positions = torch.arange(length)
    dense = plan(scheme, positions, NONE, Call(2, heads, backend="dense"))
    exact = posx.models.attention.dispatch.attend_rotated(q, k, v, dense)
    fused = plan(scheme, positions, NONE, Call(2, heads, backend="fused"))
    assert fused.by_distance is not None
    with torch.autocast("cpu", torch.bfloat16):
        found = posx.models.attention.dispatch.attend_rotated(*(x.bfloat16() for x in (q, k, v)), fused)
    assert found.dtype == torch.bfloat16
    assert gap(found.float(), exact) < BF16_ROUNDING
