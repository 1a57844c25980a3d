"""Tests of ``posx.schemes.forgetting``: and cable."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from x_transformers.x_transformers import DataDependentAlibi

from fixtures.content_bias import bias, scheme_of, site_of
from fixtures.models import CONTEXT, gap, make_model, make_scheme, random_tokens
from posx.config.schema import ModelConfig
from posx.models.attention.context import dense_addend
from posx.models.decoder import Decoder, count_parameters
from posx.schemes.base import Scheme, Site

pytestmark = pytest.mark.every_processor


@pytest.mark.parametrize("name", ["forgetting", "cable"])
def test_equal_gates_are_alibi(name: str) -> None:
    """With w = 0 every token has the same addend, ln σ(2) or −softplus(2), also over 16,384 tokens."""
    scheme = scheme_of(name, 1, 4)
    scheme.weight.data.zero_()
    scheme.offset.data.fill_(2.0)
    slope = {"forgetting": 0.1269280110429725, "cable": 2.1269280110429727}[name]
    found = bias(scheme, site_of(scheme, 16384, 16380))[0, 0, -1].double()
    distances = torch.arange(16383, -1, -1).double()
    # A float32 near slope · d has an error of at most 2^-24 of it, and a difference of two has twice that.
    assert bool(((found + slope * distances).abs() <= 2**-22 * (1 + slope * distances)).all())


def test_gates_start_nearly_open() -> None:
    for name, value in (("forgetting", 5.0), ("cable", -5.0)):
        scheme = make_model(name, sharp=False).scheme
        assert bool((scheme.offset == value).all())
        assert 0.015 < float(scheme.weight.detach().std()) < 0.025
    assert sum(p.numel() for p in scheme_of("cable", 3, 8).parameters()) == 2 * 3 * (24 + 1)


# Outputs of size 1 to 5 of two layers, whose logits of about 10 are float32: as ROUNDING of test_contract.py.
ROUNDING = 2e-5


GATES = ("forgetting", "cable")


LENGTHS = (1, 5, CONTEXT, 29)  # below, at and beyond the training length


by_gate = pytest.mark.parametrize("name", GATES)


by_heads = pytest.mark.parametrize("heads", [1, 3, 4])


by_length = pytest.mark.parametrize("length", LENGTHS)


BiasOf = Callable[[int, Tensor], Tensor]  # layer, x [B, T, C] -> [B, H, T, T]; the future is ignored


def written_out(name: str, weight: Tensor, offset: Tensor) -> BiasOf:
    """The sum for each pair separately: gates from the one after the key up to the query's."""

    def bias(layer: int, x: Tensor) -> Tensor:
        z = torch.einsum("hc,btc->bht", weight[layer], x) + offset[layer][:, None]
        # Sharp weights give |z| < 20: in float64 neither form overflows, and errors are below 1e-15.
        gate = torch.log(1 / (1 + torch.exp(-z))) if name == "forgetting" else -torch.log(1 + torch.exp(z))
        rows = []
        for i in range(x.shape[1]):
            row = [gate[:, :, j + 1 : i + 1].sum(-1) for j in range(i + 1)]
            row += [torch.zeros_like(row[0])] * (x.shape[1] - 1 - i)
            rows.append(torch.stack(row, -1))
        return torch.stack(rows, -2)

    return bias


def x_transformers(weight: Tensor, offset: Tensor) -> BiasOf:
    def bias(layer: int, x: Tensor) -> Tensor:
        theirs = DataDependentAlibi(weight.shape[2], weight.shape[1]).double()
        linear = theirs.to_forget_gates[0]
        linear.weight.data.copy_(weight[layer])
        linear.bias.data.copy_(offset[layer])
        return theirs(x)

    return bias


def written_decoder(model: Decoder, tokens: Tensor, bias_of: BiasOf, weights: dict[str, Tensor]) -> Tensor:
    """[B, T, C] in float64 of a gpt decoder: pre-norm, softmax(q·k / √D + bias) over the past and the token itself."""
    config, x = model.config, weights["tokens.weight"][tokens]

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + config.norm_eps).sqrt() * weights[f"{name}.weight"]

    for layer in range(config.n_layers):
        of = f"blocks.{layer}"
        y = norm(x, f"{of}.attention_norm")
        q, k, v = (
            (y @ weights[f"{of}.attention.{part}.weight"].T).unflatten(-1, (config.n_heads, -1)).transpose(1, 2)
            for part in "qkv"
        )
        logits = q @ k.mT / math.sqrt(q.shape[-1]) + bias_of(layer, y)
        future = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
        mixed = torch.softmax(logits.masked_fill(future, -math.inf), -1) @ v
        x = x + mixed.transpose(1, 2).flatten(2) @ weights[f"{of}.attention.out.weight"].T
        hidden = F.gelu(norm(x, f"{of}.feed_forward_norm") @ weights[f"{of}.feed_forward.up.weight"].T)
        x = x + hidden @ weights[f"{of}.feed_forward.down.weight"].T
    return norm(x, "norm")


def doubles(model: Decoder) -> dict[str, Tensor]:
    return {name: p.detach().double().requires_grad_() for name, p in model.named_parameters()}


def decoder(name: str, heads: int) -> Decoder:
    return make_model(name, n_heads=heads, d_model=12 * heads)


@torch.no_grad()
@by_heads
@by_length
@by_gate
def test_decoder_matches_the_reference(name: str, length: int, heads: int) -> None:
    model, tokens = decoder(name, heads), random_tokens(length, batch=3)
    weights = doubles(model)
    gates = weights["scheme.weight"], weights["scheme.offset"]
    oracles = [written_out(name, *gates)] + ([x_transformers(*gates)] if name == "forgetting" else [])
    for bias_of in oracles:
        expected = written_decoder(model, tokens, bias_of, weights)
        assert gap(model(tokens), expected) < ROUNDING
        for tail in {1, length // 2 + 1}:
            assert gap(model(tokens, tail=tail), expected[:, -tail:]) < ROUNDING


@by_heads
@by_gate
@pytest.mark.parametrize("backend", ["auto", "dense", "tiles", "blocks"])
def test_gradients_match_the_reference(name: str, heads: int, backend: str) -> None:
    """Of every parameter, to 1e-4 of its largest: sums of 3 · 29 tokens' products through two layers of float32."""
    model, tokens = decoder(name, heads).train(), random_tokens(29, batch=3)
    weights = doubles(model)
    target = torch.randn(3, 29, 12 * heads, generator=torch.Generator().manual_seed(2))
    (model(tokens, backend=backend) * target).sum().backward()
    bias_of = written_out(name, weights["scheme.weight"], weights["scheme.offset"])
    (written_decoder(model, tokens, bias_of, weights) * target).sum().backward()
    for key, parameter in model.named_parameters():
        expected = weights[key].grad
        assert expected is not None, key
        assert gap(parameter.grad, expected) < 1e-4 * float(expected.abs().max()), key
        if key.startswith("scheme."):
            assert bool((parameter.grad != 0).all()), key


@torch.no_grad()
@by_gate
def test_positions_change_nothing(name: str) -> None:
    """Any positions in any order give bit-identical results."""
    model, tokens = decoder(name, 3), random_tokens(29, batch=3)
    draw = torch.Generator().manual_seed(0)
    expected = model(tokens)
    for positions in (torch.randint(10**6, (29,), generator=draw), torch.randint(99, (3, 29), generator=draw)):
        assert torch.equal(model(tokens, positions), expected)


@by_heads
@by_gate
def test_parameters(name: str, heads: int) -> None:
    """One weight per channel and one offset, for each head of each layer; their initial values."""
    model = make_model(name, n_layers=3, n_heads=heads, d_model=64 * heads, sharp=False)
    assert count_parameters(model)["scheme"] == 3 * heads * (64 * heads + 1)
    weight, offset = (p.detach().double() for p in (model.scheme.weight, model.scheme.offset))
    assert weight.shape == (3, heads, 64 * heads)
    assert abs(float(weight.std()) / 0.02 - 1) < 4 / (2 * weight.numel()) ** 0.5  # four standard errors
    theirs = DataDependentAlibi(64 * heads, heads).to_forget_gates[0].bias.detach()
    assert torch.equal(offset, (theirs if name == "forgetting" else -theirs).double().expand(3, heads))
    zero = make_model(name, sharp=False, initial=0.0).scheme  # initial value in the authors' code of cable
    assert bool((zero.offset == 0).all())


def long_gates(name: str, offset: float, length: int) -> tuple[Scheme, Tensor, Tensor]:
    """A scheme, its input [1, T, 4], and the exact sum up to each token [T] in float64.

    All are multiples of 1/8 or 1/64, so that w·x + b is exact in float32.
    """
    scheme = make_scheme(name, ModelConfig(d_model=4, n_heads=1, n_layers=1))
    scheme.weight.data.copy_(torch.tensor([0.5, -0.25, 1.0, 0.125]))
    scheme.offset.data.fill_(offset)
    x = torch.randint(-8, 9, (1, length, 4), generator=torch.Generator().manual_seed(5)) / 8
    z = (x[0].double() @ scheme.weight[0, 0].detach().double()) + offset
    return scheme, x, F.logsigmoid(z if name == "forgetting" else -z).cumsum(0)


@torch.no_grad()
def bias_of_block(scheme: Scheme, x: Tensor, start: int, end: int) -> Tensor:
    """[Tq, Tk], −inf over the future."""
    positions = torch.arange(end)
    q = torch.zeros(1, 1, end - start, 4)
    site = Site(positions[start:], positions, start, q=q, k=torch.zeros(1, 1, end, 4), x=x[:, :end])
    return dense_addend(site, scheme.bias(site), [], 1)[0, 0]


@pytest.mark.parametrize(
    "size", [0.003, 0.7, 6.0], ids=["open", "half", "shut"]
)  # approximate log gate of a token, negated
@pytest.mark.parametrize("start, end", [(16320, 16384), (8000, 8256), (0, 64)])
@by_gate
def test_precision_of_sums_over_16384_tokens(name: str, size: float, start: int, end: int) -> None:
    """A pair's error is at most 2^-22 of its sum plus 2^-23 of the sum over preceding queries of the block.

    Both sums are counted from the block's first query and rounded to float32 (2^-24 each), as is their difference; a
    gate is itself a float32 of two roundings. Where a token costs 6 nats, the sums from the first token reach 1e5 and a
    float32 of such a size errs by 4e-3.
    """
    offset = round(64 * math.log(math.expm1(size))) / 64 * (-1 if name == "forgetting" else 1)
    scheme, x, sums = long_gates(name, offset, 16384)
    found = bias_of_block(scheme, x, start, end).double()
    i, j = torch.arange(start, end)[:, None], torch.arange(end)
    expected = sums[i] - sums[j]
    bound = 2**-22 * expected.abs() + 2**-23 * (sums[i] - sums[start]).abs()
    assert bool((found[i < j] == -math.inf).all())
    assert bool((found[i == j] == 0).all())
    assert bool(((found - expected).abs() <= bound)[i >= j].all())
    if size == 6.0 and start > 0:  # float32 sums from the first token on would fail here
        short = sums.float()
        assert not bool(((short[i] - short[j] - expected).abs() <= bound)[i >= j].all())


@torch.no_grad()
@by_gate
def test_autocast_does_not_round_gates(name: str) -> None:
    """With bf16 autocast, the bias is bit-identical."""
    scheme, x, _ = long_gates(name, 1.3, 200)
    x = x + 0.001
    expected = bias_of_block(scheme, x, 100, 200)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bias_of_block(scheme, x, 100, 200), expected)


@torch.no_grad()
@by_gate
@pytest.mark.parametrize("settings", [{}, {"initial": 0.0}], ids=["initial", "half open"])
def test_64_queries_against_16384_keys_in_bf16(name: str, settings: dict[str, Any]) -> None:
    """Finite, and equal to float32 up to products of bf16 values: 3e-2 of outputs of size 1."""
    model = make_model(name, n_layers=1, d_model=16, n_heads=2, sharp=False, **settings)
    tokens = random_tokens(16384, batch=1)
    exact = model(tokens, tail=64)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(tokens, tail=64)
    assert bool(found.isfinite().all())
    assert gap(found, exact) < 3e-2 * float(exact.abs().max())
