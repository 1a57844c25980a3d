"""Tests of ``posx.schemes.t5``."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers.models.t5.modeling_t5 import T5Attention
from x_transformers.x_transformers import RelativePositionBias

import posx.schemes.t5
from fixtures.models import make_scheme
from posx.config.schema import ModelConfig
from posx.models.attention.context import dense_addend
from posx.schemes.base import ModelShape, Site
from posx.schemes.t5 import bucket
from posx.verify.oracles.packaged import t5_bias


@pytest.mark.parametrize("buckets", [2, 7, 8, 31, 32, 64])
@pytest.mark.parametrize("max_distance", [33, 64, 100, 128, 512])
def test_buckets_match_t5(buckets: int, max_distance: int) -> None:
    distance = torch.arange(-5, 3000)
    theirs = T5Attention._relative_position_bucket(
        -distance, bidirectional=False, num_buckets=buckets, max_distance=max_distance
    )
    assert torch.equal(bucket(distance, buckets, max_distance), theirs)


def test_known_buckets() -> None:
    """32 buckets up to 128: one distance each up to 15; the last bucket starts at 113."""
    ours = bucket(torch.arange(200), 32, 128)
    assert ours[:17].tolist() == [*range(16), 16]
    assert ours[112] == 30
    assert ours[113:].unique().tolist() == [31]


# (training context, max_distance setting, effective max_distance)
@pytest.mark.parametrize("context, given, acts", [(64, None, 64), (128, None, 128), (512, None, 128), (64, 100, 100)])
@pytest.mark.parametrize("n_heads", [1, 3, 4])
def test_t5_bias(n_heads: int, context: int, given: int | None, acts: int) -> None:
    """A gather from the same table with the same buckets must be bit-identical."""
    config = ModelConfig(d_model=8 * n_heads, n_heads=n_heads)
    scheme = make_scheme("t5", config, context, max_distance=given, buckets=32)
    nn.init.normal_(scheme.table, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(150)
    site = Site(positions, positions)
    ours = dense_addend(site, scheme.bias(site), [], n_heads)
    past = torch.ones(150, 150, dtype=torch.bool).tril()
    assert torch.equal(ours[..., past], t5_bias(SimpleNamespace(scheme=scheme), 150)[..., past])
    assert bool((ours[..., ~past] == -math.inf).all())


def test_t5_with_scale_matches_x_transformers() -> None:
    """x-transformers multiplies the table by √D; the results must be bit-identical."""
    length, heads, head_dim = 300, 6, 16
    theirs = RelativePositionBias(head_dim**0.5, causal=True, num_buckets=32, max_distance=128, heads=heads)
    ours = posx.schemes.t5.T5(
        posx.schemes.t5.T5Config(scale=head_dim**0.5), ModelShape(heads * head_dim, heads, head_dim, 1, 512)
    )
    with torch.no_grad():
        ours.table.copy_(theirs.relative_attention_bias.weight.T)
        past = torch.ones(length, length, dtype=torch.bool).tril()
        positions = torch.arange(length)
        bias = dense_addend(Site(positions, positions), ours.bias(Site(positions, positions)), [], heads)[0]
        assert torch.equal(bias[:, past], theirs(length, length)[:, past])
