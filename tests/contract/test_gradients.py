"""Gradients reach every parameter and are the slopes of the loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fixtures.laws import SHAPES, both_families, every_scheme, small_model
from fixtures.models import CONTEXT, make_model, random_tokens
from fixtures.moved_pairs import bound
from posx.config.catalog import PACKAGED
from posx.models.loss import head_cross_entropy
from posx.verify.oracles.laws import slopes


@both_families
@every_scheme
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_gradients_reach_every_parameter(name: str, family: str, tie_embeddings: bool) -> None:
    """One step at the training length from posx's initial values, with every token as a target.

    Every single number of the scheme's parameters: a row or a bucket that training never reaches would keep its
    initial value. Other parameters: each matrix as a whole.
    """
    model = small_model(name, family, tie_embeddings=tie_embeddings, sharp=False).train()
    tokens = random_tokens(CONTEXT + 1, batch=8)
    hidden = model.readable(model(tokens[:, :-1])).flatten(0, 1)
    head_cross_entropy(hidden, model.head_weight, tokens[:, 1:].flatten(), torch.float32).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key
        assert float(parameter.grad.norm()) > 1e-6, key
        # Some units of dape are initially active, or inactive, for all pairs: their offset cancels in the softmax.
        if key.startswith("scheme.") and key != "scheme.first_offset":
            assert bool((parameter.grad != 0).all()), key


@both_families
@every_scheme
def test_gradients_are_the_slopes_of_the_loss(name: str, family: str) -> None:
    """Autograd compared with central differences, in both families; rounding and curvature leave less than 2%."""
    assert slopes(name, PACKAGED, family=family, **SHAPES[family]) < 2e-2


@pytest.mark.parametrize("text", ["self-extend(w=4,G=2)", "leaky-rerope", "sinks", "temperature(c=0.5)"])
@pytest.mark.parametrize("name", ["rope", "alibi", "shaw"])
def test_gradients_with_an_extension_are_the_slopes_of_the_loss(name: str, text: str) -> None:
    """As in a fine-tune with the extension: a step along the gradient that changes the loss by one percent."""
    model = make_model(name)
    tokens = random_tokens(2 * CONTEXT)
    extension: Any = bound(text, model, 2 * CONTEXT)

    def loss() -> Tensor:
        return model(tokens, extension=extension).square().mul(torch.linspace(0.5, 1.5, 48)).sum()

    first = loss()
    first.backward()
    parameters = [p for p in model.parameters() if p.grad is not None]
    gradients = [p.grad.clone() for p in parameters]
    square = sum(float((g**2).sum()) for g in gradients)
    step = 0.01 * float(first.detach()) / square
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            for p, g in zip(parameters, gradients, strict=True):
                p += sign * step * g
            values.append(float(loss()))
    slope = (values[0] - values[1]) / (2 * step)
    assert abs(slope / square - 1) < 2e-2
