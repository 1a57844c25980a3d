"""Tests of ``posx.extensions.window``."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5Attention

from fixtures.extension_models import LINEAR, LONG, ROPE, TOLERANCE, assert_same, together
from fixtures.models import CONTEXT, MASKABLE, extend, gap, make_model, make_scheme, random_tokens
from posx.config.schema import ModelConfig
from posx.extensions.base import Target
from posx.extensions.window import Window, WindowConfig
from posx.models.attention.context import Call
from posx.models.attention.dispatch import attend_rotated, plan
from posx.verify.oracles import host_models as hosts

pytestmark = pytest.mark.every_processor


def brute_force(q: Tensor, k: Tensor, v: Tensor, w: int, bias: Any) -> Tensor:
    """Attention of one sequence over the last w keys, in float64 and plain loops; bias(h, d)."""
    n_heads, length, width = q.shape
    out = torch.zeros(n_heads, length, width, dtype=torch.float64)
    for h, i in itertools.product(range(n_heads), range(length)):
        seen = [j for j in range(length) if j <= i and i - j < w]
        assert len(seen) == min(i + 1, w)
        logits = []
        for j in seen:
            product = sum(float(q[h, i, d]) * float(k[h, j, d]) for d in range(width))
            logits.append(product / math.sqrt(width) + bias(h, i - j))
        top = max(logits)
        weights = [math.exp(x - top) for x in logits]
        for j, weight in zip(seen, weights, strict=True):
            out[h, i] += weight / sum(weights) * v[h, j].double()
    return out


@pytest.mark.parametrize("how", [{}, {"backend": "dense"}, {"block": 1}, {"block": 3}])
@pytest.mark.parametrize("w", [1, 2, 5, 11, 40])
@pytest.mark.parametrize("name", ["nope", "alibi", "t5"])
def test_window_matches_brute_force(name: str, w: int, how: dict[str, Any]) -> None:
    """Logits of about 3 in float32 compared with float64: 1e-6 would suffice."""
    n_heads, length, width = 3, 11, 4
    config = ModelConfig(d_model=n_heads * width, n_heads=n_heads)
    scheme = make_scheme(name, config)
    draw = torch.Generator().manual_seed(2)
    q, k, v = (1.5 * torch.randn(1, n_heads, length, width, generator=draw) for _ in range(3))

    def bias(h: int, d: int) -> float:
        if name == "alibi":
            return -d * [2**-4, 2**-8, 2**-2][h]  # two heads' slopes, then the first of four
        if name == "t5":
            index = T5Attention._relative_position_bucket(
                torch.tensor(-d), bidirectional=False, num_buckets=8, max_distance=CONTEXT
            )
            return float(scheme.table.detach()[h, index])
        return 0.0

    if name == "t5":
        nn.init.normal_(scheme.table, generator=draw)
    extension = together([Window(WindowConfig(w=w))], Target(CONTEXT, length))
    flow = plan(scheme, torch.arange(length), extension, Call(1, n_heads, **how))
    assert gap(attend_rotated(q, k, v, flow)[0], brute_force(q[0], k[0], v[0], w, bias)) < 3e-6


def outside(length: int, w: int) -> Tensor:
    """−inf if a key is more than w − 1 tokens back, else 0; [T, T], in loops."""
    addend = torch.zeros(length, length)
    for i, j in itertools.product(range(length), repeat=2):
        if j < i - (w - 1):
            addend[i, j] = -math.inf
    return addend


@pytest.mark.parametrize("w", [1, 2, 5, CONTEXT, LONG, None])
@pytest.mark.parametrize("scheme", ["nope", "t5"])
def test_window_in_gpt2(scheme: str, w: int | None) -> None:
    """None means w = L."""
    model = make_model(scheme)
    addend = outside(LONG, w or CONTEXT)
    if scheme == "t5":
        distance = torch.arange(LONG)[:, None] - torch.arange(LONG)
        index = T5Attention._relative_position_bucket(
            -distance, bidirectional=False, num_buckets=8, max_distance=CONTEXT
        )
        addend = addend + model.scheme.table.detach()[:, index]
    extension = extend(model, LONG, window={"w": w})
    assert extension.resolved() == {"window": {"w": w or CONTEXT}}
    assert_same(model, extension, hosts.gpt2(model), LONG, addend=addend)


@pytest.mark.parametrize("w", [1, 2, 5, CONTEXT, LONG])
def test_window_matches_mistral(w: int) -> None:
    model = make_model("rope", family="llama", n_heads=4, n_kv_heads=2, head_dim=16)
    assert_same(model, extend(model, LONG, window={"w": w}), hosts.mistral(model, ROPE, w), LONG)


@pytest.mark.parametrize("order", list(itertools.permutations(["pi", "window"])), ids="+".join)
def test_pi_with_window_is_mistral_with_linear_rope(order: tuple[str, ...]) -> None:
    model = make_model("rope", family="llama")
    asked = {name: {"pi": {}, "window": {"w": 6}}[name] for name in order}
    host = hosts.mistral(model, {**LINEAR, "factor": 4.0}, 6)
    assert_same(model, extend(model, LONG, **asked), host, LONG)


@torch.no_grad()
@pytest.mark.parametrize("family", ["gpt", "llama"])
@pytest.mark.parametrize("name", [s for s in MASKABLE if s != "randomized"])
def test_window_of_one_sees_only_the_token(name: str, family: str) -> None:
    """Each output equals that of a one-token sequence at that position. Shapes of products differ: 2e-5."""
    model = make_model(name, family=family)
    tokens = random_tokens(CONTEXT)
    whole = model(tokens, extension=extend(model, CONTEXT, window={"w": 1}))
    for i in range(CONTEXT):
        alone = model(tokens[:, i : i + 1], positions=torch.tensor([i]))
        assert gap(whole[:, i : i + 1], alone) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("name", [s for s in MASKABLE if s not in ("randomized", "ssmax", "layers")])
def test_a_layer_with_a_window_sees_w_tokens(name: str) -> None:
    """With one layer, the last output is that of the last w tokens at their own positions.

    Not with ssmax, which counts all tokens, nor with positions that are drawn.
    """
    model = make_model(name, n_layers=1)
    tokens = random_tokens(CONTEXT)
    for w in (2, 7):
        last = model(tokens, extension=extend(model, CONTEXT, window={"w": w}))[:, -1]
        cut = model(tokens[:, -w:], positions=torch.arange(CONTEXT - w, CONTEXT))
        assert gap(last, cut[:, -1]) < TOLERANCE
