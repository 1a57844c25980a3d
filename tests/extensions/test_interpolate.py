"""Tests of ``posx.extensions.interpolate``."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fixtures.extension_models import LONG, assert_same
from fixtures.models import CONTEXT, extend, gap, make_model, make_scheme, random_tokens
from posx.config.schema import ModelConfig
from posx.extensions.base import Target
from posx.extensions.interpolate import Interpolate, InterpolateConfig
from posx.verify.oracles import host_models as hosts

pytestmark = pytest.mark.every_processor


def stretched(table: Tensor, length: int) -> Tensor:
    """A table [L, C] as [length, C], by torch."""
    return F.interpolate(table.T[None], size=length, mode="linear", align_corners=True)[0].T


@pytest.mark.parametrize("length", [CONTEXT + 1, 40, LONG, 1000])
def test_interpolated_rows_are_those_of_torch(length: int) -> None:
    """Between rows of size 1, a share p·(L−1)/(ℓ−1) of up to 16 rounds at 2^-20; rows differ by up to 6."""
    config = ModelConfig(d_model=24, n_heads=1)
    scheme = make_scheme("learned", config)
    nn.init.normal_(scheme.table, generator=torch.Generator().manual_seed(0))
    target = Target(CONTEXT, length, last_position=scheme.last_position)
    positions = Interpolate(InterpolateConfig()).positions(torch.arange(length), target)
    ours = scheme.vectors(positions)
    assert gap(ours, stretched(scheme.table, length)) < 6 * 2**-19
    assert torch.equal(ours[0], scheme.table[0])
    assert gap(ours[-1], scheme.table[-1]) < 6 * 2**-19


@pytest.mark.parametrize("length", [CONTEXT + 1, LONG])
@pytest.mark.parametrize("shape", [{"n_heads": 3}, {"n_heads": 4, "tie_embeddings": False}])
def test_interpolate_is_gpt2_with_a_stretched_table(length: int, shape: dict[str, Any]) -> None:
    model = make_model("learned", **shape)
    host = hosts.gpt2(model, stretched(model.scheme.table.detach(), length))
    assert_same(model, extend(model, length, interpolate={}), host, length)


def test_interpolate_concatenated_rows() -> None:
    model = make_model("learned-concat", family="llama")
    table = stretched(model.scheme.table.detach(), LONG)
    embeds = torch.cat([model.tokens.weight[random_tokens(LONG)], table.expand(2, -1, -1)], dim=-1)
    assert_same(model, extend(model, LONG, interpolate={}), hosts.smollm3(model), LONG, embeds=embeds)


@pytest.mark.parametrize("length", [CONTEXT, CONTEXT + 1, 40, LONG])
@pytest.mark.parametrize("family", ["gpt", "llama"])
def test_interpolated_sinusoids(length: int, family: str) -> None:
    """PE(p/s) in float64, with s = ℓ/L, as the input of a host without positions."""
    model = make_model("sinusoidal", family=family)
    width, s = model.config.d_model, max(1.0, length / CONTEXT)
    table = torch.zeros(length, width, dtype=torch.float64)
    for p in range(length):
        for k in range(width // 2):
            angle = p / s * 10000.0 ** (-2 * k / width)
            table[p, 2 * k], table[p, 2 * k + 1] = math.sin(angle), math.cos(angle)
    embeds = model.tokens.weight[random_tokens(length)] * width**0.5 + table.float()
    host = hosts.gpt2(model) if family == "gpt" else hosts.smollm3(model)
    assert_same(model, extend(model, length, interpolate={}), host, length, embeds=embeds)
