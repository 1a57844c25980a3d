"""Tests of ``posx.schemes.sinusoidal``."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fixtures.models import CONTEXT, gap, make_model, make_scheme, random_tokens
from fixtures.scheme_models import assert_same, host_without_positions
from posx.config.schema import ModelConfig
from posx.verify.oracles import papers as written

pytestmark = pytest.mark.every_processor


@pytest.mark.parametrize("base", [10000.0, 50.0])
def test_shifts_are_rotations(base: float) -> None:
    """PE(p + n) = M_n·PE(p) for all p. M_n is computed from PE(n), which contains sin and cos of n·θ."""
    scheme = make_scheme("sinusoidal", ModelConfig(d_model=24, n_heads=1), base=base)
    table = scheme.vectors(torch.arange(400)).double()
    for n in (1, 7, 150):
        move = torch.zeros(24, 24, dtype=torch.float64)
        for k in range(0, 24, 2):
            sine, cosine = table[n, k], table[n, k + 1]
            move[k, k] = move[k + 1, k + 1] = cosine
            move[k, k + 1], move[k + 1, k] = sine, -sine
        assert gap(move @ move.T, torch.eye(24)) < 1e-6
        # Three angles of at most 400, each rounded at 2^-23 of itself (θ and product).
        assert gap(table[: 400 - n] @ move.T, table[n:]) < 3 * 400 * 2**-23


# Below, at and beyond the training length of 16.
LENGTHS = (5, CONTEXT, 3 * CONTEXT + 1)


@pytest.mark.parametrize("base", [10000.0, 500.0])
@pytest.mark.parametrize("width", [2, 7, 48])
def test_sinusoids_match_the_paper(width: int, base: float) -> None:
    config = ModelConfig(d_model=width, n_heads=1)
    scheme = make_scheme("sinusoidal", config, base=base)
    positions = [0, 1, 2, 15, 16, 47, 300, 4095]
    ours = scheme.vectors(torch.tensor(positions))
    for row, p in enumerate(positions):
        # An angle p·θ with θ ≤ 1 is off by at most two roundings of float32, 2^-23 of p.
        assert gap(ours[row], written.sinusoids([p], width, base)[0]) < 2**-23 * (p + 2)


def test_known_sinusoids() -> None:
    scheme = make_scheme("sinusoidal", ModelConfig(d_model=4, n_heads=1))
    known = [[0, 1, 0, 1], [0.8414709848, 0.5403023059, 0.0099998333, 0.9999500004]]
    known += [[0.1411200081, -0.9899924966, 0.0299955002, 0.9995500337]]
    assert gap(scheme.vectors(torch.tensor([0, 1, 3])), torch.tensor(known)) < 2e-7


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("family", ["gpt", "llama"])
@pytest.mark.parametrize("settings", [{}, {"scale_tokens": False}, {"base": 100.0}])
def test_sinusoidal_added(family: str, length: int, settings: dict[str, Any]) -> None:
    """The reference model gets the paper's sum, √C · token + PE, as input."""
    model = make_model("sinusoidal", family=family, **settings)
    width = model.config.d_model
    scale = width**0.5 if settings.get("scale_tokens", True) else 1.0
    table = written.sinusoids(list(range(length)), width, settings.get("base", 10000.0)).float()
    embeds = model.tokens.weight[random_tokens(length)] * scale + table
    assert_same(model, host_without_positions(model), length, embeds=embeds)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("family", ["gpt", "llama"])
@pytest.mark.parametrize("settings", [{}, {"width": 9, "scale_tokens": False}])
def test_sinusoidal_concatenated(family: str, length: int, settings: dict[str, Any]) -> None:
    """The reference model gets [√C · token ; PE]; its head reads only the token part (a table padded with zeros)."""
    model = make_model("sinusoidal-concat", family=family, **settings)
    width = settings.get("width", 12)  # a quarter of 48
    scale = 48**0.5 if settings.get("scale_tokens", True) else 1.0
    table = written.sinusoids(list(range(length)), width).float()
    embeds = torch.cat([model.tokens.weight[random_tokens(length)] * scale, table.expand(2, -1, -1)], dim=-1)
    assert_same(model, host_without_positions(model), length, embeds=embeds)
