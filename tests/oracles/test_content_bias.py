"""Biases that depend on what stands there: shaw, transformer-xl and the gates, beyond what ``comparisons.py`` asks.

Weights, queries, keys and inputs are drawn from a standard normal. A logit is then a sum of D ≤ 16 products of size 1,
or for gates of up to 40 numbers below 10: float32 moves it by about 1e-6 of its size, up to 100. TOLERANCE is relative.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import CONTEXT, gap, make_model, make_scheme, random_tokens
from posx.config.schema import ModelConfig
from posx.errors import PosxError
from posx.extensions.base import NONE
from posx.models.attention.context import Call, dense_addend
from posx.models.attention.dispatch import attend_rotated, plan
from posx.schemes.base import Scheme, Site, entries

TOLERANCE = 1e-6
LAYER = 1  # of two


def scheme_of(name: str, heads: int, width: int, **settings: Any) -> Scheme:
    scheme = make_scheme(name, ModelConfig(d_model=heads * width, n_heads=heads, n_layers=2), **settings)
    draw = torch.Generator().manual_seed(1)
    for parameter in scheme.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=draw))
    return scheme


def site_of(scheme: Scheme, length: int, start: int = 0) -> Site:
    """Queries ``start`` and later of a batch of two."""
    shape, positions = scheme.shape, torch.arange(length)
    draw = torch.Generator().manual_seed(length)
    q, k = torch.randn(2, 2, shape.n_heads, length, shape.head_dim, generator=draw)
    x = torch.randn(2, length, shape.d_model, generator=draw)
    shared = scheme.prepare(positions, NONE)
    return Site(positions[start:], positions, start, shared, LAYER, q[:, :, start:], k, x)


@torch.no_grad()
def bias(scheme: Scheme, site: Site) -> Tensor:
    """[B, H, Tq, Tk], 0 over the future."""
    found = dense_addend(site, scheme.bias(site), [], scheme.shape.n_heads)
    return found.masked_fill(found == -math.inf, 0.0)


def past(expected: Tensor) -> Tensor:
    """0 over the future."""
    return expected.tril(expected.shape[-1] - expected.shape[-2])


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert gap(found, past(expected)) <= TOLERANCE * max(1.0, float(past(expected).abs().max()))


# ---------------------------------------------------------------- shaw


def test_shaw_settings() -> None:
    assert scheme_of("shaw", 1, 4).table.shape == (2, CONTEXT, 4)  # no row that a context of 16 cannot train
    assert make_scheme("shaw", ModelConfig(), context=64).clip == 16
    with pytest.raises(PosxError, match="tells no distances apart"):
        make_scheme("shaw", ModelConfig(), clip=0)


def attended(scheme: Scheme, site: Site, v: Tensor, tail: int | None = None, block: int | None = None) -> Tensor:
    """Attention of LAYER at the positions of the keys; with ``tail``, of the last queries."""
    assert site.q is not None
    flow = replace(plan(scheme, site.k_pos, NONE, Call(len(v), v.shape[1], block=block)), layer=LAYER)
    return attend_rotated(site.q[:, :, -(tail or v.shape[2]) :], site.k, v, flow)


@torch.no_grad()
def test_shaws_values_of_16384_keys() -> None:
    """With q = 0 every key weighs the same: of the value's table a mean, whose last row counts for all but 16 keys.

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
def test_gradients_reach_every_number_of_shaws_tables(heads: int, width: int) -> None:
    """Those of the tables beside a central difference in one direction, through blocks of queries."""
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


def test_without_values_shaw_has_none() -> None:
    """Neither the table nor the slower way through all weights; and the tables that it has start as without."""
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


# ---------------------------------------------------------------- transformer-xl


def test_transformer_xl_has_as_many_parameters_as_it_says() -> None:
    assert sum(p.numel() for p in scheme_of("transformer-xl", 3, 8).parameters()) == 2 * 24 * 24 + 2 * 24


# ---------------------------------------------------------------- shaw and transformer-xl

by_content = pytest.mark.parametrize("name", ["shaw", "transformer-xl"])


@torch.no_grad()
@by_content
def test_distances_are_rounded_not_cut(name: str) -> None:
    """Positions that miss whole numbers by less than a quarter give distances that round to the same: bit-equal."""
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
def test_each_sequence_may_have_positions_of_its_own(name: str) -> None:
    """Beside each sequence alone. Products of one sequence sum in another order than those of two: TOLERANCE."""
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
def test_what_is_added_beside_bf16(name: str, w: float, step: float) -> None:
    """What q·a and u·k add stays float32, bit-equal. The product with W r is made in bf16: two of its steps."""
    scheme = scheme_of(name, 4, 16)
    if name == "transformer-xl":
        scheme.w.mul_(w)  # without W only u·k is left
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
def test_a_closure_gives_a_pair_what_it_gives_the_whole(name: str) -> None:
    """Whole ranges, some of them, and one element at a time as FlexAttention asks: bit-equal."""
    scheme, length = scheme_of(name, 3, 8), 21
    site = site_of(scheme, length, 9)
    closure = scheme.bias(site)
    b, h, i, j = (torch.arange(n) for n in (2, 3, length - 9, length))
    whole = closure(b[:, None, None, None], h[:, None, None], i[:, None], j)
    assert whole.shape == (2, 3, 12, 21)
    assert torch.equal(closure(b[:, None, None, None], h[1:, None, None], i[::2, None], j[3:]), whole[:, 1:, ::2, 3:])
    for where in [(0, 0, 0, 0), (1, 2, 11, 20), (1, 0, 5, 3)]:
        assert torch.equal(closure(*map(torch.tensor, where)), whole[where])
    each = torch.vmap(torch.vmap(closure, (None, None, None, 0)), (None, None, 0, None))  # what FlexAttention does
    assert torch.equal(each(b[1], h[2], i, j), whole[1, 2])


def test_entries_of_rows() -> None:
    """One gather, also for a row of entries for each sequence; its gradient counts how often an entry was taken."""
    rows = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    b, h, i = torch.arange(2)[:, None, None, None], torch.arange(3)[:, None, None], torch.arange(4)[:, None]
    for n in (torch.arange(28).view(4, 7) % 3, torch.arange(56).view(2, 1, 4, 7) % 5):
        found = entries(rows, b, h, i, n)
        assert torch.equal(found, rows[b, h, i, n])
        (gradient,) = torch.autograd.grad(found.sum(), rows)
        taken = torch.nn.functional.one_hot(n, 5).sum(-2).expand(2, 3, 4, 5)
        assert torch.equal(gradient, taken.float())


@torch.no_grad()
@by_content
def test_vectors_start_small(name: str) -> None:
    """From a normal of 0.02; 48 numbers estimate that to about 10 %."""
    for parameter in make_model(name, sharp=False).scheme.parameters():
        assert 0.014 < float(parameter.std()) < 0.026
        assert abs(float(parameter.mean())) < 0.01


# ---------------------------------------------------------------- gates


@pytest.mark.parametrize("name", ["forgetting", "cable"])
def test_equal_gates_are_alibi(name: str) -> None:
    """With w = 0 every token costs the same: ln σ(2) or −softplus(2) a token, also over 16,384 of them."""
    scheme = scheme_of(name, 1, 4)
    scheme.weight.data.zero_()
    scheme.offset.data.fill_(2.0)
    slope = {"forgetting": 0.1269280110429725, "cable": 2.1269280110429727}[name]
    found = bias(scheme, site_of(scheme, 16384, 16380))[0, 0, -1].double()
    distances = torch.arange(16383, -1, -1).double()
    # A float32 near slope · d is off by at most 2^-24 of it, and the difference of two such by twice that.
    assert bool(((found + slope * distances).abs() <= 2**-22 * (1 + slope * distances)).all())


def test_gates_start_nearly_open() -> None:
    for name, value in (("forgetting", 5.0), ("cable", -5.0)):
        scheme = make_model(name, sharp=False).scheme
        assert bool((scheme.offset == value).all())
        assert 0.015 < float(scheme.weight.detach().std()) < 0.025
    assert sum(p.numel() for p in scheme_of("cable", 3, 8).parameters()) == 2 * 3 * (24 + 1)
