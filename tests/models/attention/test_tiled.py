"""Tests of ``posx.models.attention.tiled``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import posx.models.attention.tiled
from fixtures.models import SCHEMES, gap, make_model, random_tokens
from posx.models.attention.tiled import differentiable_attention, tiled_attention
from posx.models.loss import head_cross_entropy


def written_out(q: Tensor, k: Tensor, v: Tensor, addend: Tensor | None) -> Tensor:
    """softmax(q·k / √D + addend)·v, row by row, over the keys that a query may see."""
    out = torch.empty_like(q)
    n_queries, n_keys = q.shape[2], k.shape[2]
    for b in range(len(q)):
        for h in range(q.shape[1]):
            for i in range(n_queries):
                last = n_keys - n_queries + i + 1
                logits = k[b, h, :last] @ q[b, h, i] / q.shape[3] ** 0.5
                if addend is not None:
                    logits = logits + addend[b % len(addend), h % addend.shape[1], i, :last]
                weights = (logits - logits.max()).exp()
                out[b, h, i] = weights @ v[b, h, :last] / weights.sum()
    return out


def masked(addend: Tensor) -> Tensor:
    """−inf over the future."""
    return addend.masked_fill(torch.ones(addend.shape[-2:]).triu(1).bool(), float("-inf"))


class Tiled:
    """Context manager that sets the size of tiles."""

    def __init__(self, most: int, queries: int):
        self.values = {"TILE_BYTES": most, "QUERIES": queries, "FEWEST_QUERIES": min(queries, 3)}

    def __enter__(self) -> None:
        self.before = {name: getattr(posx.models.attention.tiled, name) for name in self.values}
        vars(posx.models.attention.tiled).update(self.values)

    def __exit__(self, *caught: object) -> None:
        vars(posx.models.attention.tiled).update(self.before)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_values_and_gradients_match_the_formula(data: st.DataObject) -> None:
    batch, heads = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 2, 3, 4, 6]))
    length, width = data.draw(st.integers(1, 13)), data.draw(st.sampled_from([1, 4]))
    most, queries = data.draw(st.sampled_from([1, 200, 600, 2000, 10**6])), data.draw(st.integers(1, 16))
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    shapes = [None, (1, 1), (1, heads), (batch, 1), (batch, heads)]
    shape = data.draw(st.sampled_from(shapes))

    def random(*size: int) -> Tensor:
        return torch.randn(*size, dtype=torch.float64, generator=draw)

    # As the model gives them: views of [B, T, H, D].
    leaves = [random(batch, length, heads, width).requires_grad_() for _ in range(3)]
    if shape is not None:
        leaves.append(random(*shape, length, length).requires_grad_())

    def run(how: Any) -> list[Tensor]:
        q, k, v = (x.transpose(1, 2) for x in leaves[:3])
        out = how(q, k, v, masked(leaves[3]) if shape else None)
        weighted = (out * torch.arange(out.numel(), dtype=torch.float64).sin().view(out.shape)).sum()
        return [out, *torch.autograd.grad(weighted, leaves)]

    with Tiled(most, queries):
        found = run(differentiable_attention)
    for ours, exact in zip(found, run(written_out), strict=True):
        torch.testing.assert_close(ours, exact, rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_last_queries_alone(data: st.DataObject) -> None:
    batch, heads, n_keys = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 13))
    n_queries = data.draw(st.integers(1, n_keys))
    draw = torch.Generator().manual_seed(n_keys)
    q, k, v = (
        torch.randn(batch, heads, n, 4, dtype=torch.float64, generator=draw) for n in (n_queries, n_keys, n_keys)
    )
    addend = masked(torch.randn(1, heads, n_keys, n_keys, dtype=torch.float64, generator=draw))[
        :, :, n_keys - n_queries :
    ]
    given_addend = data.draw(st.booleans())

    def part(start: int, end: int) -> Tensor | None:
        return addend[:, :, start:end, : n_keys - n_queries + end] if given_addend else None

    with Tiled(data.draw(st.sampled_from([1, 400, 10**6])), data.draw(st.integers(1, 16))):
        found = tiled_attention(q, k, v, part)
    exact = written_out(q, k, v, addend if given_addend else None)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


def gradients(model: Any, tokens: Tensor, backend: str, dtype: torch.dtype) -> dict[str, Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        hidden = model.readable(model(tokens, backend=backend))
    head_cross_entropy(hidden.flatten(0, 1), model.head_weight, tokens.roll(-1, 1).flatten(), dtype).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("family", ["gpt", "llama"])
def test_gradients_match_the_dense_backend(name: str, family: str) -> None:
    """Every parameter's gradient compared with the dense backend; in bf16, as close to it as plain torch in bf16."""
    own = {"n_heads": 4, "n_kv_heads": 2, "head_dim": 16} if family == "llama" else {}
    model = make_model(name, family=family, **own)
    tokens = random_tokens(16, batch=3)
    exact = gradients(model, tokens, "dense", torch.float32)
    rounded = gradients(model, tokens, "dense", torch.bfloat16)
    with Tiled(5000, 7):
        found, found_rounded = (gradients(model, tokens, "tiles", dtype) for dtype in (torch.float32, torch.bfloat16))
    assert found.keys() == exact.keys()
    for key, wanted in exact.items():
        assert gap(found[key], wanted) <= 2e-5 * float(wanted.abs().max()), key
        error, plain = ((x[key] - wanted).norm() / wanted.norm() for x in (found_rounded, rounded))
        if wanted.numel() > 16:  # with fewer numbers, errors are due to chance
            assert error <= 1.5 * plain + 1e-3, key
