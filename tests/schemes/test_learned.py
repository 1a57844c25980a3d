"""Tests of ``posx.schemes.learned``."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fixtures.laws import small_model
from fixtures.models import CONTEXT, extend, make_model, random_tokens
from fixtures.scheme_models import assert_same, host_without_positions
from posx.errors import Unsupported
from posx.verify.oracles import host_models as hosts
from posx.verify.oracles.scheme_comparisons import LLAMA_SHAPES

pytestmark = pytest.mark.every_processor


@pytest.mark.parametrize("name", ["learned", "learned-concat"])
def test_learned_refuses_past_its_table(name: str) -> None:
    model = small_model(name, "gpt")
    assert model.scheme.last_position == CONTEXT - 1
    model(random_tokens(CONTEXT))
    with pytest.raises(Unsupported, match=r"end at 16\..*--extension interpolate.*up to 16"):
        model(random_tokens(CONTEXT + 1))
    with pytest.raises(Unsupported, match="interpolate"):
        model(random_tokens(3), positions=torch.tensor([0, 1, CONTEXT]))
    with pytest.raises(Unsupported, match="interpolate"):
        model(random_tokens(CONTEXT + 1), extension=extend(model, CONTEXT + 1, window={}))


by_shape = {"ids": lambda s: "-".join(f"{k}{v}" for k, v in s.items())}


@pytest.mark.parametrize("length", [5, CONTEXT])
@pytest.mark.parametrize("shape", LLAMA_SHAPES, **by_shape)
def test_learned_in_llama(shape: dict[str, Any], length: int) -> None:
    model = make_model("learned", family="llama", **shape)
    embeds = model.tokens.weight[random_tokens(length)] + model.scheme.table[:length]
    assert_same(model, hosts.smollm3(model), length, embeds=embeds)


@pytest.mark.parametrize("family", ["gpt", "llama"])
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_learned_concatenated(family: str, tie_embeddings: bool) -> None:
    model = make_model("learned-concat", family=family, tie_embeddings=tie_embeddings)
    table = model.scheme.table.expand(2, -1, -1)
    embeds = torch.cat([model.tokens.weight[random_tokens(CONTEXT)], table], dim=-1)
    assert_same(model, host_without_positions(model), CONTEXT, embeds=embeds)
