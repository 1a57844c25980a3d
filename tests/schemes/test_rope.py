"""Tests of ``posx.schemes.rope``."""

from __future__ import annotations

import math

import pytest
import torch
from x_transformers.x_transformers import RotaryEmbedding, apply_rotary_pos_emb

from fixtures.laws import ROUNDING
from fixtures.models import gap, make_scheme, rotated
from posx.config.schema import ModelConfig
from posx.schemes import rope
from posx.verify.oracles import host_models as hosts


@torch.no_grad()
@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_rope_scores_depend_on_distance_only(fraction: float) -> None:
    """One query and one key vector at all pairs of positions: scores are constant along diagonals."""
    scheme = make_scheme("rope", ModelConfig(d_model=32, n_heads=1), fraction=fraction)
    draw = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 1, 1, 32, generator=draw).expand(-1, -1, 100, -1) for _ in range(2))
    turned_q, turned_k = rotated(scheme, q, k, torch.arange(100))
    scores = (turned_q.double() @ turned_k.double().mT)[0, 0]
    for distance in range(-99, 100):
        diagonal = scores.diagonal(distance)
        # Scores of about 10; angles up to 99 rounded at 2^-18.
        assert gap(diagonal, diagonal[:1].expand_as(diagonal)) < 32 * 99 * 2**-23


@pytest.mark.parametrize("fraction", [0.5, 1.0])
@pytest.mark.parametrize("learned", [False, True], ids=["given angles", "angles with gradients"])
def test_gradient_of_a_rotation_matches_a_complex_product(fraction: float, learned: bool) -> None:
    """Reference in float64 with autograd: pairs as complex numbers, times e^(i p θ)."""
    draw = torch.Generator().manual_seed(0)
    x, wanted = (torch.randn(2, 3, 11, 8, generator=draw) for _ in range(2))
    half = int(fraction * 8) // 2
    angles = torch.randn(11, half, generator=draw).requires_grad_(learned)
    ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    found = rope.turned(ours, angles.cos(), angles.sin())
    pairs = torch.complex(theirs[..., :half], theirs[..., half : 2 * half]) * torch.exp(1j * angles.detach().double())
    exact = torch.cat([pairs.real, pairs.imag, theirs[..., 2 * half :]], dim=-1)
    assert gap(found, exact) < ROUNDING
    found.backward(wanted)
    exact.backward(wanted.double())
    assert gap(ours.grad, theirs.grad) < ROUNDING
    assert (angles.grad is not None and bool(angles.grad.any())) == learned


@torch.no_grad()
@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_rope_preserves_norms(fraction: float) -> None:
    """Norms of pairs are equal to a few roundings; unrotated dimensions and position 0 are bit-identical."""
    scheme = make_scheme("rope", ModelConfig(d_model=64, n_heads=2), fraction=fraction)
    q, k = torch.randn(2, 3, 2, 50, 32, generator=torch.Generator().manual_seed(0))
    half = scheme.rotated // 2
    for x, turned in zip((q, k), rotated(scheme, q, k, torch.arange(50)), strict=True):
        for pair in range(half):
            dims = [pair, pair + half]
            assert gap(turned[..., dims].norm(dim=-1), x[..., dims].norm(dim=-1)) < 2e-6
        assert torch.equal(turned[..., 2 * half :], x[..., 2 * half :])
        assert torch.equal(turned[..., 0, :], x[..., 0, :])


@pytest.mark.parametrize("head_dim, fraction", [(4, 1.0), (8, 1.0), (16, 0.25), (64, 0.5), (64, 1.0)])
def test_rotation_matches_x_transformers(head_dim: int, fraction: float) -> None:
    """x-transformers interleaves, posx uses halves. Angles up to 200 differ by one or two roundings of 200, 2^-16."""
    scheme = make_scheme("rope", ModelConfig(d_model=2 * head_dim, n_heads=2), fraction=fraction)
    width = round(fraction * head_dim)
    draw = torch.Generator().manual_seed(1)
    q, k = (torch.randn(2, 2, 200, head_dim, generator=draw) for _ in range(2))
    order = hosts.interleaved(head_dim, width)
    ours = rotated(scheme, q, k, torch.arange(200))
    angles, _ = RotaryEmbedding(width).forward_from_seq_len(200)
    for x, turned in zip((q, k), ours, strict=True):
        assert gap(turned[..., order], apply_rotary_pos_emb(x[..., order], angles)) < 2**-16 * float(x.abs().max())


def test_angles_stay_float32_with_bf16() -> None:
    """bf16 has 8 bits: a position of 4097 would become 4096, and the first angle be off by a radian."""
    scheme = make_scheme("rope", ModelConfig(d_model=8, n_heads=1))
    q = torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    turned, _ = rotated(scheme, q, q, torch.tensor([4097]))
    x = q.double().flatten()
    expected = torch.zeros(8, dtype=torch.float64)
    for k in range(4):
        angle = 4097 * 10000.0 ** (-2 * k / 8)
        expected[k] = x[k] * math.cos(angle) - x[k + 4] * math.sin(angle)
        expected[k + 4] = x[k] * math.sin(angle) + x[k + 4] * math.cos(angle)
    # One rounding to bf16 (2^-9 of the value), and 4097 · 2^-23 of angle.
    assert gap(turned.flatten(), expected) < float(expected.abs().max()) * (2**-8 + 4097 * 2**-23)
