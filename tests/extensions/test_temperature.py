"""Tests of ``posx.extensions.temperature``."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import gap, make_model, random_tokens
from fixtures.moved_pairs import applied
from posx.extensions.base import NONE

pytestmark = pytest.mark.every_processor


@torch.no_grad()
def test_temperatures_multiply() -> None:
    """λ = 2 and then log-n is q·2·log-n, for a scheme without a bias."""
    model, tokens = make_model("nope"), random_tokens(41)
    both = model(tokens, extension=applied("temperature(factor=2)+log-n", model, 41))
    for layer in model.blocks:
        layer.attention.q.weight *= 2
    assert gap(both, model(tokens, extension=applied("log-n", model, 41))) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", ["cope", "stick-breaking", "dape", "transformer-xl"])
def test_temperature_multiplies_what_enters_the_softmax(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheme whose own weights are of logits times λ."""
    model, tokens = make_model(name), random_tokens(29)
    found = model(tokens, extension=applied("temperature(factor=1.7)", model, 29))
    weights = type(model.scheme).weights
    monkeypatch.setattr(type(model.scheme), "weights", lambda self, logits, site: weights(self, logits * 1.7, site))
    assert gap(found, model(tokens, extension=NONE)) < 2e-5
