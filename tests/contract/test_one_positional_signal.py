"""A scheme is the only positional signal: without it and the mask, order is invisible."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
from fixtures.laws import FROM_ZERO, NAMES, ROUNDING, both_families, small_model
from fixtures.models import CONTEXT, gap, make_scheme, random_tokens
from posx.config.schema import ModelConfig
from posx.models.decoder import Decoder

VISIBLE = 1e-2


# Schemes that derive order from positions alone, pair by pair, so that it can be tested without the mask. The others
# use the keys between two tokens, or replace attention.
BY_POSITION = [s for s in NAMES if make_scheme(s, ModelConfig()).capabilities.by_position and s != "linear-rope"]


@pytest.fixture
def without_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every query sees every key, including later ones.

    ``dense_addend`` masks key j for the query at key index q_start + i if j > q_start + i. Here it is called with
    a q_start past all keys, so it masks none; the closure comes from the real site and gives the real distances.
    Callers use ``backend="dense"``, because the fused kernel applies its own mask.
    """
    masked = posx.models.attention.context.dense_addend

    def unmasked(site: Any, *rest: Any) -> Tensor:
        return masked(replace(site, q_start=site.k_pos.shape[-1]), *rest)

    for module in (posx.models.attention.dense, posx.models.attention.context):
        monkeypatch.setattr(module, "dense_addend", unmasked)


DOG_BITES_MAN = torch.tensor([[7, 33, 52]])


MAN_BITES_DOG = DOG_BITES_MAN.flip(1)


@torch.no_grad()
def bag_distance(model: Decoder) -> float:
    """The largest difference between the outputs of dog, bites and man in the two sentences."""
    forward, backward = (model(t, backend="dense") for t in (DOG_BITES_MAN, MAN_BITES_DOG))
    return gap(forward, backward.flip(1))


@both_families
def test_nope_without_a_mask_gives_both_sentences_the_same_outputs(family: str, without_mask: None) -> None:
    assert bag_distance(small_model("nope", family)) < ROUNDING


@both_families
def test_nope_reads_order_from_the_mask(family: str) -> None:
    assert bag_distance(small_model("nope", family)) > VISIBLE


@both_families
@pytest.mark.parametrize("name", [s for s in BY_POSITION if s != "nope"])
def test_other_schemes_distinguish_the_sentences_without_a_mask(name: str, family: str, without_mask: None) -> None:
    assert bag_distance(small_model(name, family)) > VISIBLE


@torch.no_grad()
@both_families
def test_nope_is_permutation_equivariant_without_its_mask(family: str, without_mask: None) -> None:
    model, tokens = small_model("nope", family), random_tokens(3 * CONTEXT)
    for seed in range(5):
        order = torch.randperm(3 * CONTEXT, generator=torch.Generator().manual_seed(seed))
        assert gap(model(tokens[:, order], backend="dense"), model(tokens, backend="dense")[:, order]) < ROUNDING


@torch.no_grad()
@both_families
@pytest.mark.parametrize("name", BY_POSITION)
def test_positions_are_the_only_signal(name: str, family: str, without_mask: None) -> None:
    """With all tokens at one position and no mask, no scheme has any other source of order."""
    model, tokens = small_model(name, family), random_tokens(CONTEXT)
    order = torch.randperm(CONTEXT, generator=torch.Generator().manual_seed(3))
    same = torch.full((CONTEXT,), 5)
    expected = model(tokens, same, backend="dense")[:, order]
    assert gap(model(tokens[:, order], same, backend="dense"), expected) < ROUNDING


@torch.no_grad()
@both_families
@pytest.mark.parametrize("name", [s for s in BY_POSITION if s in FROM_ZERO])
def test_positions_travel_with_their_tokens(name: str, family: str, without_mask: None) -> None:
    """Tokens and positions permuted together, without a mask, are the same set of (token, position) pairs."""
    model, tokens = small_model(name, family), random_tokens(CONTEXT)
    order = torch.randperm(CONTEXT, generator=torch.Generator().manual_seed(4))
    expected = model(tokens, backend="dense")[:, order]
    assert gap(model(tokens[:, order], order, backend="dense"), expected) < ROUNDING
