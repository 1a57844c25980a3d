"""Tests of ``posx.extensions.temperature``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fixtures.models import gap, make_model, random_tokens
from fixtures.moved_pairs import bound
from posx.extensions.base import NONE
from posx.schemes.base import Site

pytestmark = pytest.mark.every_processor


@torch.no_grad()
def test_temperatures_multiply() -> None:
    """λ = 2 and then log-n is q·2·log-n, for a scheme without a bias."""
    model, tokens = make_model("nope"), random_tokens(41)
    both = model(tokens, extension=bound("temperature(factor=2)+log-n", model, 41))
    for layer in model.blocks:
        layer.attention.q.weight *= 2
    assert gap(both, model(tokens, extension=bound("log-n", model, 41))) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", ["cope", "stick-breaking", "dape", "transformer-xl"])
def test_temperature_multiplies_what_enters_the_softmax(name: str) -> None:
    """Compared with a scheme that multiplies logits by λ in its weights."""
    model, tokens = make_model(name), random_tokens(29)
    found = model(tokens, extension=bound("temperature(factor=1.7)", model, 29))

    class Multiplied(type(model.scheme)):  # type: ignore[misc]
        def weights(self, logits: Tensor, site: Site) -> Tensor:
            return super().weights(logits * 1.7, site)

    model.scheme.__class__ = Multiplied
    vars(model.scheme).pop("capabilities")
    assert gap(found, model(tokens, extension=NONE)) < 2e-5
