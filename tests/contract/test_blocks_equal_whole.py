"""Attention in blocks, in tiles, or for the last queries only equals dense attention over the whole sequence."""

from __future__ import annotations

import pytest
import torch

import posx.models.attention.blockwise
import posx.models.attention.context
import posx.models.attention.dense
import posx.models.attention.dispatch
import posx.models.attention.sdpa
import posx.models.attention.tiled
import posx.models.loss
from fixtures.laws import ROUNDING, backends, both_families, cases, every_scheme, small_model
from fixtures.models import gap, random_tokens
from posx.models.attention.context import Call
from posx.models.attention.dispatch import choose

pytestmark = pytest.mark.every_processor


@torch.no_grad()
@both_families
@every_scheme
def test_blocks_equal_the_whole(name: str, family: str) -> None:
    model = small_model(name, family)
    for length, extension in cases(model, name):
        tokens = random_tokens(length)
        whole = model(tokens, extension=extension, backend="dense")
        for block in (1, 3, 7, 16, 64):
            assert gap(model(tokens, extension=extension, block=block), whole) < ROUNDING, (length, block)
        for how in backends(model, extension, flex=True):
            assert gap(model(tokens, extension=extension, **how), whole) < ROUNDING, (length, how)
        kernel = "scheme" if model.scheme.capabilities.has_own_attention else "fused"
        if {"backend": "fused"} in backends(model, extension):
            assert choose(model.scheme, extension, Call(2, 3, backend="fused"), length, tokens.device).name == kernel


@both_families
@every_scheme
def test_small_tiles_and_blocks_change_no_number(name: str, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of one head and few queries, and blocks of sixteen queries, as at long contexts."""
    model = small_model(name, family)
    for length, extension in cases(model, name):
        tokens = random_tokens(length)
        whole = model(tokens, extension=extension, backend="dense")
        for most, queries in ((1, 1), (2000, 5), (3000, 64), (10**6, 7)):
            monkeypatch.setattr(posx.models.attention.tiled, "TILE_BYTES", most)
            monkeypatch.setattr(posx.models.attention.tiled, "QUERIES", queries)
            monkeypatch.setattr(posx.models.attention.tiled, "FEWEST_QUERIES", min(queries, 4))
            monkeypatch.setattr(posx.models.attention.blockwise, "BLOCK_BYTES", most)
            monkeypatch.setattr(posx.models.attention.sdpa, "MASK_QUERIES", queries)
            monkeypatch.setattr(posx.models.attention.sdpa, "MASK_BYTES", most)
            for backend in ("tiles", "blocks", "fused"):
                assert gap(model(tokens, extension=extension, backend=backend), whole) < ROUNDING
                with torch.no_grad():
                    assert gap(model(tokens, extension=extension, backend=backend), whole) < ROUNDING
                    assert gap(model(tokens, extension=extension, backend=backend, tail=3), whole[:, -3:]) < ROUNDING


@torch.no_grad()
@both_families
@every_scheme
def test_the_tail_equals_the_end_of_the_whole(name: str, family: str) -> None:
    model = small_model(name, family)
    for length, extension in cases(model, name):
        tokens = random_tokens(length)
        whole = model(tokens, extension=extension, backend="dense")
        for how in backends(model, extension):
            for tail in {1, 2, length // 2 + 1, length}:
                end = model(tokens, extension=extension, tail=tail, **how)
                assert gap(end, whole[:, -tail:]) < ROUNDING, (length, tail, how)
