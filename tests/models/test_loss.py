"""Tests of ``posx.models.loss``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import posx.models.attention.blockwise
import posx.models.attention.context
import posx.models.attention.dense
import posx.models.attention.dispatch
import posx.models.attention.sdpa
import posx.models.attention.tiled
import posx.models.loss
from fixtures.models import gap, make_model, random_tokens
from posx.config.schema import IGNORED
from posx.models.loss import head_cross_entropy, nll


def loss_and_gradients(how: Any, hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    value = how(h, w)
    (0.37 * value).backward()  # a factor, as gradient accumulation or a mean would give
    return value.detach(), h.grad, w.grad


@pytest.mark.parametrize("rows", [1, 37, 512, 513, 1061])
@pytest.mark.parametrize("ignored", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("sharpness", [1.0, 100.0])
def test_head_cross_entropy_matches_torch(
    rows: int, ignored: float, sharpness: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and both gradients, in nested chunks; to a relative 1e-5, which is a hundred float32 roundings."""
    monkeypatch.setattr(posx.models.loss, "CHUNK", {"cpu": 200})
    monkeypatch.setattr(posx.models.loss, "ROW_BYTES", {"cpu": 30 * 4 * 97})
    monkeypatch.setattr(posx.models.loss, "GRADIENT_BYTES", 2 * 200 * 97 * 4)  # two chunks to a product for the weight
    draw = torch.Generator().manual_seed(rows)
    hidden, weight = torch.randn(rows, 24, generator=draw), torch.randn(97, 24, generator=draw)
    hidden *= sharpness  # of 100: targets of a probability below float32's smallest
    targets = torch.randint(97, (rows,), generator=draw)
    targets[torch.rand(rows, generator=draw) < ignored] = IGNORED

    def theirs(h: Tensor, w: Tensor) -> Tensor:
        return F.cross_entropy(h @ w.T, targets, reduction="sum", ignore_index=IGNORED)

    def ours(h: Tensor, w: Tensor) -> Tensor:
        return head_cross_entropy(h, w, targets, torch.float32)

    found, expected = loss_and_gradients(ours, hidden, weight), loss_and_gradients(theirs, hidden, weight)
    for value, wanted in zip(found, expected, strict=True):
        assert gap(value, wanted) <= 1e-5 * float(wanted.abs().max())
    each = nll(hidden @ weight.T, targets)
    assert float(each.double().sum()) == pytest.approx(float(expected[0]), rel=1e-5)
    assert bool((each[targets == IGNORED] == 0).all())
    assert torch.equal(found[1][targets == IGNORED], torch.zeros(int((targets == IGNORED).sum()), 24))


def test_head_cross_entropy_in_bf16() -> None:
    """Products of bf16 values (2^-9 each, sums of 24), summed in float32: within 2% of float32."""
    draw = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(1100, 24, generator=draw), 0.3 * torch.randn(97, 24, generator=draw)
    targets = torch.randint(97, (1100,), generator=draw)

    def by(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        return loss_and_gradients(lambda h, w: head_cross_entropy(h, w, targets, dtype), hidden, weight)

    for value, wanted in zip(by(torch.bfloat16), by(torch.float32), strict=True):
        assert value.dtype == torch.float32
        assert gap(value, wanted) < 0.02 * float(wanted.abs().max())


def test_training_loss_equals_evaluation_loss() -> None:
    """Fused and chunked on one side, torch's cross-entropy over whole rows on the other."""
    model = make_model("rope")
    tokens = random_tokens(16, batch=3)
    targets = tokens.roll(-1, 1).flatten()
    hidden = model(tokens).flatten(0, 1)
    fused = head_cross_entropy(model.readable(hidden), model.head_weight, targets, torch.float32)
    exact = nll(model.logits(hidden), targets).double().sum().item()
    assert fused.item() == pytest.approx(exact, rel=1e-6)
