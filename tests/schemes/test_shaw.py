"""Tests of ``posx.schemes.shaw``."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fixtures.content_bias import LAYER, scheme_of, site_of
from fixtures.models import CONTEXT, gap, make_model, make_scheme, random_tokens
from posx.config.schema import ModelConfig
from posx.errors import PosxError
from posx.extensions.base import NONE
from posx.models.attention.context import Call
from posx.models.attention.dispatch import attend_rotated, plan
from posx.schemes.base import Scheme, Site

pytestmark = pytest.mark.every_processor


def test_shaw_settings() -> None:
    assert scheme_of("shaw", 1, 4).table.shape == (2, CONTEXT, 4)  # every row occurs in a context of 16
    assert make_scheme("shaw", ModelConfig(), context=64).clip == 16
    with pytest.raises(PosxError, match="must be at least 1"):
        make_scheme("shaw", ModelConfig(), clip=0)


def attended(scheme: Scheme, site: Site, v: Tensor, tail: int | None = None, block: int | None = None) -> Tensor:
    """Attention in LAYER; with ``tail``, only for the last queries."""
    assert site.q is not None
    flow = replace(plan(scheme, site.k_pos, NONE, Call(len(v), v.shape[1], block=block)), layer=LAYER)
    return attend_rotated(site.q[:, :, -(tail or v.shape[2]) :], site.k, v, flow)


@torch.no_grad()
def test_shaws_values_of_16384_keys() -> None:
    """With q = 0 all keys have equal weights: the result is a mean of the value table, mostly of its last row.

    In float64 the mean over the keys up to each query. Shares of 1 / 16,384 are off by 2^-24 of themselves.
    """
    scheme, n = scheme_of("shaw", 2, 8, values=True, clip=16), 16384
    q, k, v = torch.zeros(1, 2, 64, 8), torch.zeros(1, 2, n, 8), torch.randn(1, 2, n, 8)
    flow = replace(plan(scheme, torch.arange(n), NONE, Call(1, 2)), layer=LAYER)
    found, exact = attend_rotated(q, k, v, flow), v.double().cumsum(2)[:, :, -64:]
    seen = torch.arange(n - 63, n + 1).double()[:, None]
    rows = scheme.value_table[LAYER].double()
    expected = (exact + rows[:16].sum(0) + (seen - 16) * rows[16]) / seen
    assert gap(found, expected) < 2e-6
    with torch.autocast("cpu", torch.bfloat16):
        rounded = attend_rotated(q.bfloat16(), k.bfloat16(), v.bfloat16(), flow)
    assert rounded.dtype == torch.bfloat16
    assert gap(rounded, expected) < 2**-7 * float(expected.abs().max())


@pytest.mark.parametrize(("heads", "width"), [(1, 4), (3, 8), (4, 16)])
def test_gradients_reach_every_entry_of_the_tables(heads: int, width: int) -> None:
    """Gradients of the tables compared with a central difference in one direction, through blocks of queries."""
    scheme = scheme_of("shaw", heads, width, values=True)
    site = site_of(scheme, 2 * CONTEXT)
    v = torch.randn(2, heads, 2 * CONTEXT, width, generator=torch.Generator().manual_seed(6))

    def loss() -> Tensor:
        return attended(scheme, site, v, block=5).double().sin().sum()

    both = (scheme.table, scheme.value_table)
    for table, gradient in zip(both, torch.autograd.grad(loss(), both), strict=True):
        assert bool((gradient[LAYER] != 0).all())
        assert bool((gradient[1 - LAYER] == 0).all())
        direction = gradient.sign()
        slope = float((gradient * direction).sum()) / float(direction.norm())
        found = []
        with torch.no_grad():
            for step in (1e-2, -2e-2):
                table += step * direction / direction.norm()
                found.append(float(loss()))
            table += 1e-2 * direction / direction.norm()
        assert (found[0] - found[1]) / 2e-2 == pytest.approx(slope, rel=1e-2)


def test_values_are_off_by_default() -> None:
    """Neither the table nor the slower path with all weights; other tables have the same initial values."""
    one, other = make_model("shaw", sharp=False), make_model("shaw", sharp=False, values=True)
    assert [name for name, _ in one.scheme.named_parameters()] == ["table"]
    assert (one.scheme.has_values, one.scheme.needs_logits) == (False, False)
    assert (other.scheme.has_values, other.scheme.needs_logits) == (True, True)
    assert torch.equal(one.scheme.table, other.scheme.table)
    assert not torch.equal(other.scheme.value_table, other.scheme.table)


@torch.no_grad()
def test_a_value_table_of_zeros_adds_nothing() -> None:
    one, other = make_model("shaw"), make_model("shaw", values=True)
    other.load_state_dict(one.state_dict(), strict=False)
    other.scheme.value_table.zero_()
    tokens = random_tokens(40)
    assert gap(one(tokens), other(tokens)) < 2e-5
    other.scheme.value_table.normal_()
    assert gap(one(tokens), other(tokens)) > 0.1
