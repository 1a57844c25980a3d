"""Tests of ``posx.schemes.alibi``."""

from __future__ import annotations

import math

import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from fixtures.models import gap, make_scheme
from posx.config.schema import ModelConfig
from posx.models.attention.context import dense_addend
from posx.schemes.alibi import slopes
from posx.schemes.base import Site

HEADS = (1, 2, 3, 4, 6, 7, 8, 12, 16)


@pytest.mark.parametrize("n_heads", HEADS)
def test_slopes_match_bloom_and_mpt(n_heads: int) -> None:
    """Powers of two in float32: a few roundings at most. BLOOM adds +m·j: its bias at j = 1 is the slope."""
    ours = torch.tensor(slopes(n_heads))
    bloom = build_alibi_tensor(torch.ones(1, 2), n_heads, torch.float32)[:, 0, 1]
    mpt = -build_mpt_alibi_tensor(n_heads, 2)[:, 0, 0]
    assert gap(ours, bloom) < 1e-6
    assert gap(ours, mpt) < 1e-6


def test_known_slopes() -> None:
    """H = 8: 1/2 … 1/256. H = 12: those, then every second slope of sixteen heads, from the largest."""
    eight = [2.0**-h for h in range(1, 9)]
    assert slopes(8) == eight
    assert gap(torch.tensor(slopes(12)), torch.tensor([*eight, 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])) == 0
    assert [round(m, 3) for m in slopes(12)[8:]] == [0.707, 0.354, 0.177, 0.088]


@pytest.mark.parametrize("n_heads", HEADS)
def test_bias_matches_mpt(n_heads: int) -> None:
    """MPT stores the row of the last query, −m·(T − 1 − j); query i corresponds to its end."""
    length = 40
    scheme = make_scheme("alibi", ModelConfig(d_model=8 * n_heads, n_heads=n_heads))
    positions = torch.arange(length)
    site = Site(positions, positions)
    ours = dense_addend(site, scheme.bias(site), [], n_heads)[0]
    theirs = build_mpt_alibi_tensor(n_heads, length)[:, 0]
    for i in range(length):
        assert gap(ours[:, i, : i + 1], theirs[:, length - 1 - i :]) < 1e-5  # two roundings of up to 28
        assert bool((ours[:, i, i + 1 :] == -math.inf).all())
