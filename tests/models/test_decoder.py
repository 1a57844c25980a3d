"""Tests of ``posx.models.decoder``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fixtures.laws import both_families, every_scheme, small_model
from fixtures.models import CONTEXT, make_model
from posx.models.decoder import Decoder, count_parameters, initialise


def shared_parameters(model: Decoder) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if not name.startswith("scheme.")}


@both_families
@every_scheme
def test_shared_parameters_start_equal(name: str, family: str) -> None:
    """Equal seeds: parameters shared with nope are bit-identical. Different seeds: no matrix is equal."""
    nope, model = (shared_parameters(small_model(n, family, sharp=False, seed=5)) for n in ("nope", name))
    other = shared_parameters(small_model(name, family, sharp=False, seed=6))
    narrower = name.endswith("-concat")
    assert model.keys() == nope.keys()
    for key, value in model.items():
        if not (narrower and key == "tokens.weight"):
            assert torch.equal(value, nope[key]), key
        if value.ndim > 1:
            assert float((value == other[key]).double().mean()) < 0.01, key


@every_scheme
def test_initial_values_match_gpt2(name: str) -> None:
    """0.02, divided by √(2 · layers) for matrices that write to the stream; norms are 1. To 4 standard errors."""
    model = make_model(name, n_layers=3, d_model=96, sharp=False)
    for key, value in shared_parameters(model).items():
        if value.ndim == 1:
            assert bool((value == 1).all()), key
            continue
        writes = key.endswith((".out.weight", ".down.weight"))
        wanted = 0.02 / 6**0.5 if writes else 0.02
        assert abs(float(value.detach().std()) / wanted - 1) < 4 / (2 * value.numel()) ** 0.5, key
        assert abs(float(value.detach().mean())) < 4 * wanted / value.numel() ** 0.5, key


@every_scheme
def test_initialise_ignores_what_was_drawn_before(name: str) -> None:
    model = make_model(name, seed=3, sharp=False)
    torch.rand(17)
    again = make_model(name, seed=1, sharp=False)
    initialise(again, 3)
    for key, value in model.named_parameters():
        assert torch.equal(value, again.get_parameter(key)), key


@both_families
@pytest.mark.parametrize("name", ["sinusoidal", "learned"])
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_concatenating_does_not_grow_the_model(name: str, family: str, tie_embeddings: bool) -> None:
    """V·C + L·C when added, V·(C − w) + L·w when concatenated; all else is equal."""
    added, beside = (
        count_parameters(small_model(n, family, tie_embeddings=tie_embeddings)) for n in (name, f"{name}-concat")
    )
    rows = CONTEXT if name == "learned" else 0
    assert beside["total"] <= added["total"]
    assert added["total"] - beside["total"] == 61 * 12 + rows * (48 - 12)
    assert added["scheme"] == rows * 48
    assert beside["scheme"] == rows * 12
    assert added["non_embedding"] - beside["non_embedding"] == rows * (48 - 12)
