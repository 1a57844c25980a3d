"""Tests of ``posx.schemes.base``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import posx.models.attention.blockwise
import posx.models.attention.context
import posx.models.attention.dense
import posx.models.attention.dispatch
import posx.models.attention.sdpa
import posx.models.attention.tiled
import posx.models.loss
from fixtures.laws import ROUNDING, small_model
from fixtures.models import SCHEMES, gap, random_tokens
from posx.extensions.base import NONE
from posx.schemes.alibi import Alibi
from posx.schemes.base import Closure, Site, entries

pytestmark = pytest.mark.every_processor


@torch.no_grad()
@pytest.mark.parametrize("name", [s for s in SCHEMES if small_model(s, "gpt").scheme.capabilities.bias_is_by_distance])
def test_a_bias_by_distance_is_one(name: str) -> None:
    """The addend is the same at any position; the fused backend uses the row of the last query for all queries."""
    scheme, length = small_model(name, "gpt").scheme, 41
    heads = scheme.shape.n_heads

    def added(positions: Tensor) -> Tensor:
        site = Site(positions, positions, shared=scheme.prepare(positions, NONE))
        return posx.models.attention.context.dense_addend(site, scheme.bias(site), [], heads)[0]

    here, far = added(torch.arange(length)), added(torch.arange(1000, 1000 + length))
    torch.testing.assert_close(here, far, rtol=0, atol=0)
    torch.testing.assert_close(here[:, :-1, :-1], here[:, 1:, 1:], rtol=0, atol=0)


class Landmarks(Alibi):
    """A bias that also depends on the key's position; the subclass inherits alibi's attributes."""

    def bias(self, site: Site) -> Closure:
        return lambda b, h, i, j: -self.slopes[h] * site.distance(b, i, j) + (j % 5 == 0)


@torch.no_grad()
def test_subclass_with_its_own_bias_does_not_inherit_bias_by_distance() -> None:
    model = small_model("alibi", "gpt")
    assert model.scheme.bias_is_by_distance
    model.scheme = Landmarks(model.scheme.config, model.scheme.shape)
    assert not model.scheme.bias_is_by_distance
    tokens = random_tokens(29)
    assert gap(model(tokens, backend="fused"), model(tokens, backend="dense")) < ROUNDING


def test_entries_of_rows() -> None:
    """One gather, also with different entries per sequence; the gradient counts how often an entry was used."""
    rows = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    b, h, i = torch.arange(2)[:, None, None, None], torch.arange(3)[:, None, None], torch.arange(4)[:, None]
    for n in (torch.arange(28).view(4, 7) % 3, torch.arange(56).view(2, 1, 4, 7) % 5):
        found = entries(rows, b, h, i, n)
        assert torch.equal(found, rows[b, h, i, n])
        (gradient,) = torch.autograd.grad(found.sum(), rows)
        taken = torch.nn.functional.one_hot(n, 5).sum(-2).expand(2, 3, 4, 5)
        assert torch.equal(gradient, taken.float())
