"""Tests of ``posx.schemes.shaw``: and transformer xl."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fixtures.content_bias import bias, scheme_of, site_of
from fixtures.models import gap, make_model
from posx.extensions.base import NONE

pytestmark = pytest.mark.every_processor

TOLERANCE = 1e-6


def past(expected: Tensor) -> Tensor:
    """0 over the future."""
    return expected.tril(expected.shape[-1] - expected.shape[-2])


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert gap(found, past(expected)) <= TOLERANCE * max(1.0, float(past(expected).abs().max()))


def test_number_of_parameters_of_transformer_xl() -> None:
    assert sum(p.numel() for p in scheme_of("transformer-xl", 3, 8).parameters()) == 2 * 24 * 24 + 2 * 24


by_content = pytest.mark.parametrize("name", ["shaw", "transformer-xl"])


@torch.no_grad()
@by_content
def test_distances_are_rounded_not_truncated(name: str) -> None:
    """Positions less than a quarter away from integers give the same rounded distances: bit-identical."""
    scheme, length = scheme_of(name, 3, 8), 40
    whole = site_of(scheme, length)
    missed = (
        torch.arange(length)
        + torch.linspace(-0.24, 0.24, length)[torch.randperm(length, generator=torch.Generator().manual_seed(2))]
    )
    near = replace(whole, q_pos=missed, k_pos=missed, shared=scheme.prepare(missed, NONE))
    assert gap(bias(scheme, near), bias(scheme, whole)) == 0


@torch.no_grad()
@by_content
def test_sequences_can_have_different_positions(name: str) -> None:
    """Compared with each sequence alone. Products of one and of two sequences sum in different orders: TOLERANCE."""
    scheme, length = scheme_of(name, 3, 8), 21
    site = site_of(scheme, length)
    positions = torch.stack([torch.arange(length), 5 + 3 * torch.arange(length)])
    both = replace(site, q_pos=positions, k_pos=positions, shared=scheme.prepare(positions, NONE))
    found = bias(scheme, both)
    for n, own in enumerate(positions):
        alone = replace(site, q_pos=own, k_pos=own, shared=scheme.prepare(own, NONE))
        assert_same(found[n], bias(scheme, alone)[n])
    assert gap(found[1], bias(scheme, site)[1]) > 0.1


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "w", "step"), [("shaw", 1.0, 0.0), ("transformer-xl", 0.0, 0.0), ("transformer-xl", 1.0, 2**-7)]
)
def test_addend_with_bf16(name: str, w: float, step: float) -> None:
    """The terms q·a and u·k stay float32, bit-identical. The product with W r runs in bf16: two of its steps."""
    scheme = scheme_of(name, 4, 16)
    if name == "transformer-xl":
        scheme.w.mul_(w)  # without W, only u·k remains
    site = site_of(scheme, 40)
    assert site.q is not None
    assert site.k is not None
    q, k = site.q.bfloat16(), site.k.bfloat16()
    expected = bias(scheme, replace(site, q=q.float(), k=k.float()))
    with torch.autocast("cpu", torch.bfloat16):
        found = bias(scheme, replace(site, q=q, k=k))
    assert found.dtype == torch.float32
    assert gap(found, expected) <= step * float(expected.abs().max())


@torch.no_grad()
@by_content
def test_closure_of_one_pair_equals_the_whole(name: str) -> None:
    """Whole ranges, parts, and one element at a time as in FlexAttention: bit-identical."""
    scheme, length = scheme_of(name, 3, 8), 21
    site = site_of(scheme, length, 9)
    closure = scheme.bias(site)
    b, h, i, j = (torch.arange(n) for n in (2, 3, length - 9, length))
    whole = closure(b[:, None, None, None], h[:, None, None], i[:, None], j)
    assert whole.shape == (2, 3, 12, 21)
    assert torch.equal(closure(b[:, None, None, None], h[1:, None, None], i[::2, None], j[3:]), whole[:, 1:, ::2, 3:])
    for where in [(0, 0, 0, 0), (1, 2, 11, 20), (1, 0, 5, 3)]:
        assert torch.equal(closure(*map(torch.tensor, where)), whole[where])
    each = torch.vmap(torch.vmap(closure, (None, None, None, 0)), (None, None, 0, None))  # as in FlexAttention
    assert torch.equal(each(b[1], h[2], i, j), whole[1, 2])


@torch.no_grad()
@by_content
def test_initial_values(name: str) -> None:
    """Normal with standard deviation 0.02; 48 numbers estimate that to about 10%."""
    for parameter in make_model(name, sharp=False).scheme.parameters():
        assert 0.014 < float(parameter.std()) < 0.026
        assert abs(float(parameter.mean())) < 0.01
