"""Embeddings, rotations, slopes and buckets beside implementations that this project did not write, at their edges.

``comparisons.py`` has every scheme in layers and models. Whole models here: our weights inside a model of transformers,
the same tokens, logits and final hidden states compared. With the weights of ``small.sharpen`` logits reach about 10,
and a wrong positional signal moves them by 0.1 to 10; float32 in another order moves them by about 1e-6 to 1e-5. Hence
TOLERANCE.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention
from x_transformers.x_transformers import RelativePositionBias, RotaryEmbedding, apply_rotary_pos_emb

import posx.schemes.t5
from helpers import CONTEXT, gap, make_model, make_scheme, random_tokens, rotated
from posx.config.schema import ModelConfig
from posx.models.attention.context import dense_addend
from posx.models.decoder import Decoder
from posx.schemes.alibi import slopes
from posx.schemes.base import ModelShape, Site
from posx.schemes.t5 import bucket
from posx.verify.oracles import hosts, written
from posx.verify.oracles.comparisons import LLAMA_SHAPES
from posx.verify.oracles.packaged import t5_bias

TOLERANCE = 2e-5
# Below, at and beyond the training length of 16.
LENGTHS = (5, CONTEXT, 3 * CONTEXT + 1)
by_shape = {"ids": lambda s: "-".join(f"{k}{v}" for k, v in s.items())}


@torch.no_grad()
def assert_same(model: Decoder, host: nn.Module, length: int, **instead: Tensor) -> None:
    """Logits and final hidden states of both; ``instead`` goes to :func:`hosts.run`."""
    tokens = random_tokens(length)
    hidden = model(tokens)
    logits, last = hosts.run(host, **(instead if "embeds" in instead else {"tokens": tokens, **instead}))
    assert gap(hidden, last) < TOLERANCE
    assert gap(model.logits(hidden), logits) < TOLERANCE


# ---------------------------------------------------------------- sinusoidal


@pytest.mark.parametrize("base", [10000.0, 500.0])
@pytest.mark.parametrize("width", [2, 7, 48])
def test_sinusoids_as_the_paper_writes_them(width: int, base: float) -> None:
    config = ModelConfig(d_model=width, n_heads=1)
    scheme = make_scheme("sinusoidal", config, base=base)
    positions = [0, 1, 2, 15, 16, 47, 300, 4095]
    ours = scheme.vectors(torch.tensor(positions))
    for row, p in enumerate(positions):
        # An angle p·θ with θ ≤ 1 is off by at most two roundings of float32, 2^-23 of p.
        assert gap(ours[row], written.sinusoids([p], width, base)[0]) < 2**-23 * (p + 2)


def test_known_sinusoids() -> None:
    scheme = make_scheme("sinusoidal", ModelConfig(d_model=4, n_heads=1))
    known = [[0, 1, 0, 1], [0.8414709848, 0.5403023059, 0.0099998333, 0.9999500004]]
    known += [[0.1411200081, -0.9899924966, 0.0299955002, 0.9995500337]]
    assert gap(scheme.vectors(torch.tensor([0, 1, 3])), torch.tensor(known)) < 2e-7


def host_without_positions(model: Decoder) -> nn.Module:
    return hosts.gpt2(model) if model.config.family == "gpt" else hosts.smollm3(model)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("family", ["gpt", "llama"])
@pytest.mark.parametrize("settings", [{}, {"scale_tokens": False}, {"base": 100.0}])
def test_sinusoidal_added(family: str, length: int, settings: dict[str, Any]) -> None:
    """The host gets the paper's sum, √C · token + PE, as its input vectors."""
    model = make_model("sinusoidal", family=family, **settings)
    width = model.config.d_model
    scale = width**0.5 if settings.get("scale_tokens", True) else 1.0
    table = written.sinusoids(list(range(length)), width, settings.get("base", 10000.0)).float()
    embeds = model.tokens.weight[random_tokens(length)] * scale + table
    assert_same(model, host_without_positions(model), length, embeds=embeds)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("family", ["gpt", "llama"])
@pytest.mark.parametrize("settings", [{}, {"width": 9, "scale_tokens": False}])
def test_sinusoidal_concatenated(family: str, length: int, settings: dict[str, Any]) -> None:
    """The host gets [√C · token ; PE]; its head reads the token part alone (a table padded with zeros)."""
    model = make_model("sinusoidal-concat", family=family, **settings)
    width = settings.get("width", 12)  # a quarter of 48
    scale = 48**0.5 if settings.get("scale_tokens", True) else 1.0
    table = written.sinusoids(list(range(length)), width).float()
    embeds = torch.cat([model.tokens.weight[random_tokens(length)] * scale, table.expand(2, -1, -1)], dim=-1)
    assert_same(model, host_without_positions(model), length, embeds=embeds)


# ---------------------------------------------------------------- learned


@pytest.mark.parametrize("length", [5, CONTEXT])
@pytest.mark.parametrize("shape", LLAMA_SHAPES, **by_shape)
def test_learned_in_llama(shape: dict[str, Any], length: int) -> None:
    model = make_model("learned", family="llama", **shape)
    embeds = model.tokens.weight[random_tokens(length)] + model.scheme.table[:length]
    assert_same(model, hosts.smollm3(model), length, embeds=embeds)


@pytest.mark.parametrize("family", ["gpt", "llama"])
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_learned_concatenated(family: str, tie_embeddings: bool) -> None:
    model = make_model("learned-concat", family=family, tie_embeddings=tie_embeddings)
    table = model.scheme.table.expand(2, -1, -1)
    embeds = torch.cat([model.tokens.weight[random_tokens(CONTEXT)], table], dim=-1)
    assert_same(model, host_without_positions(model), CONTEXT, embeds=embeds)


# ---------------------------------------------------------------- rope


@pytest.mark.parametrize("head_dim, fraction", [(4, 1.0), (8, 1.0), (16, 0.25), (64, 0.5), (64, 1.0)])
def test_rotation_is_that_of_x_transformers(head_dim: int, fraction: float) -> None:
    """Theirs interleaves, ours is half-split. Angles up to 200 differ by a rounding or two of 200, 2^-16."""
    scheme = make_scheme("rope", ModelConfig(d_model=2 * head_dim, n_heads=2), fraction=fraction)
    width = round(fraction * head_dim)
    draw = torch.Generator().manual_seed(1)
    q, k = (torch.randn(2, 2, 200, head_dim, generator=draw) for _ in range(2))
    order = hosts.interleaved(head_dim, width)
    ours = rotated(scheme, q, k, torch.arange(200))
    angles, _ = RotaryEmbedding(width).forward_from_seq_len(200)
    for x, turned in zip((q, k), ours, strict=True):
        assert gap(turned[..., order], apply_rotary_pos_emb(x[..., order], angles)) < 2**-16 * float(x.abs().max())


def test_angles_stay_float32_beside_bf16() -> None:
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


# ---------------------------------------------------------------- alibi

HEADS = (1, 2, 3, 4, 6, 7, 8, 12, 16)


@pytest.mark.parametrize("n_heads", HEADS)
def test_slopes_are_those_of_bloom_and_mpt(n_heads: int) -> None:
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
def test_alibi_bias_is_that_of_mpt(n_heads: int) -> None:
    """MPT keeps the row of the last query, −m·(T − 1 − j): query i of ours is the end of it."""
    length = 40
    scheme = make_scheme("alibi", ModelConfig(d_model=8 * n_heads, n_heads=n_heads))
    positions = torch.arange(length)
    site = Site(positions, positions)
    ours = dense_addend(site, scheme.bias(site), [], n_heads)[0]
    theirs = build_mpt_alibi_tensor(n_heads, length)[:, 0]
    for i in range(length):
        assert gap(ours[:, i, : i + 1], theirs[:, length - 1 - i :]) < 1e-5  # two roundings of up to 28
        assert bool((ours[:, i, i + 1 :] == -math.inf).all())


# ---------------------------------------------------------------- t5


@pytest.mark.parametrize("buckets", [2, 7, 8, 31, 32, 64])
@pytest.mark.parametrize("max_distance", [33, 64, 100, 128, 512])
def test_buckets_are_those_of_t5(buckets: int, max_distance: int) -> None:
    distance = torch.arange(-5, 3000)
    theirs = T5Attention._relative_position_bucket(
        -distance, bidirectional=False, num_buckets=buckets, max_distance=max_distance
    )
    assert torch.equal(bucket(distance, buckets, max_distance), theirs)


def test_known_buckets() -> None:
    """32 buckets up to 128: one distance each up to 15, and the last begins at 113."""
    ours = bucket(torch.arange(200), 32, 128)
    assert ours[:17].tolist() == [*range(16), 16]
    assert ours[112] == 30
    assert ours[113:].unique().tolist() == [31]


# (training context, max_distance as set, as it must act)
@pytest.mark.parametrize("context, given, acts", [(64, None, 64), (128, None, 128), (512, None, 128), (64, 100, 100)])
@pytest.mark.parametrize("n_heads", [1, 3, 4])
def test_t5_bias(n_heads: int, context: int, given: int | None, acts: int) -> None:
    """A gather from the same table by the same buckets: not one bit may differ."""
    config = ModelConfig(d_model=8 * n_heads, n_heads=n_heads)
    scheme = make_scheme("t5", config, context, max_distance=given, buckets=32)
    nn.init.normal_(scheme.table, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(150)
    site = Site(positions, positions)
    ours = dense_addend(site, scheme.bias(site), [], n_heads)
    past = torch.ones(150, 150, dtype=torch.bool).tril()
    assert torch.equal(ours[..., past], t5_bias(SimpleNamespace(scheme=scheme), 150)[..., past])
    assert bool((ours[..., ~past] == -math.inf).all())


# ---------------------------------------------------------------- nope


def test_t5_scaled_by_the_root_of_the_head_is_the_one_of_x_transformers() -> None:
    """x-transformers multiplies the table by √D; the numbers must be the same to the bit."""
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
