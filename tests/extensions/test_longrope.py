"""Tests of ``posx.extensions.longrope``."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.longrope_runs import LONG, spec
from fixtures.models import CONTEXT, extend, extensions, gap, make_model, make_scheme, named, random_tokens
from posx.config.schema import ModelConfig
from posx.errors import Unsupported
from posx.extensions.base import Target
from posx.extensions.longrope import LongRope
from posx.models.binding import bind, fits, freeze
from posx.verify.oracles import papers as written

pytestmark = pytest.mark.every_processor

FAR = Target(CONTEXT, LONG)


def longrope(*factors: float, **others: Any) -> LongRope:
    return LongRope(LongRope.Config(factors=":".join(map(str, factors)), **others))


def test_known_values() -> None:
    """θ = 1 and 0.01 over 1 and 2; at 4 times 16 tokens √(1 + ln 4 / ln 16) = √1.5."""
    theta = make_scheme("rope", ModelConfig(d_model=4, n_heads=1)).frequencies()
    extension = longrope(1, 2, n=3)
    assert extension.spectrum(theta, FAR).tolist() == pytest.approx([1, 0.005])
    assert extension.amplitude(FAR) == pytest.approx(math.sqrt(1.5))
    assert extension.resolved(FAR) == {"s": 4.0, "factors": [1.0, 2.0], "n": 3, "amplitude": math.sqrt(1.5)}
    assert longrope(1, 2, attention=1.25).amplitude(FAR) == 1.25


@pytest.mark.parametrize("length", [1, CONTEXT - 1, CONTEXT])
def test_up_to_l_nothing_changes(length: int) -> None:
    theta = make_scheme("rope", ModelConfig(d_model=4, n_heads=1)).frequencies()
    here, extension = Target(CONTEXT, length), longrope(2, 3, n=3, attention=1.25)
    assert extension.spectrum(theta, here) is theta
    assert (extension.amplitude(here), extension.unscaled(here)) == (1.0, 0)
    assert extension.unscaled(Target(CONTEXT, CONTEXT + 1)) == 3


@torch.no_grad()
@pytest.mark.parametrize("name", ["rope", "partial-rope", "p-rope", "xpos"])
def test_factors_of_s_are_pi(name: str) -> None:
    """Bit-identical without a temperature; with n, the first positions are unchanged."""
    model = make_model(name)
    tokens, pairs = random_tokens(LONG), model.scheme.rotated // 2
    factors = ":".join(["4"] * pairs)
    pi = model(tokens, extension=extend(model, LONG, pi={}))
    ours = model(tokens, extension=extend(model, LONG, longrope={"factors": factors, "attention": 1.0}))
    assert torch.equal(ours, pi)
    kept = extend(model, LONG, longrope={"factors": factors, "attention": 1.0, "n": LONG})
    assert torch.equal(model(tokens, extension=kept), model(tokens))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(1, 50), min_size=2, max_size=2),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(17, 1024),
    st.booleans(),
)
def test_angles_are_the_formula(factors: list[float], n: int, trained_n: int, length: int, rows: bool) -> None:
    """p·θ·I(λ, n̂) in float64, of what was trained with on top of that; positions of a batch, and fractions."""
    scheme = make_scheme("rope", ModelConfig(d_model=4, n_heads=1))
    positions = torch.arange(0, 60, 1.5)
    positions = positions.view(2, -1) if rows else positions
    asked = named("longrope", factors=":".join(map(str, factors)), n=n)
    before = named("longrope", factors="2:3", n=trained_n, s=2.0)
    found = bind([asked], scheme, length, [before]).angles(positions, scheme.frequencies())
    for place, p in enumerate(positions.flatten().tolist()):
        for k, theta in enumerate(written.frequencies(4)):
            expected = p * theta
            expected /= 1 if p < n else factors[k]
            expected /= 1 if p < trained_n else (2, 3)[k]
            assert found.flatten(0, -2)[place, k].item() == pytest.approx(expected, rel=1e-6)


@torch.no_grad()
def test_first_positions_are_unchanged() -> None:
    """Only queries and keys of the first n tokens are rotated as without the extension."""
    model = make_model("rope", n_layers=1)
    factors = ":".join(str(2 + k) for k in range(8))
    extension = extend(model, LONG, longrope={"factors": factors, "attention": 1.0, "n": 5})
    tokens = random_tokens(LONG)
    ours, plain = model(tokens, extension=extension), model(tokens)
    assert gap(ours[:, :5], plain[:, :5]) < 2e-5
    assert gap(ours[:, 5:6], plain[:, 5:6]) > 1e-3


def test_frozen_extension_has_a_name() -> None:
    """It includes the scale and no file name."""
    (kept,) = freeze([spec("longrope(factors=1:2.50:4, n=2)")], CONTEXT, LONG)
    assert str(kept) == "longrope(factors=1:2.5:4, n=2, s=4)"
    again, theta = spec(str(kept)), torch.tensor([1.0, 0.1, 0.01])
    for length in (3, CONTEXT, LONG, 1000):
        here = Target(CONTEXT, length)
        assert torch.equal(again.spectrum(theta, here), longrope(1, 2.5, 4).spectrum(theta, FAR))
        assert (again.amplitude(here), again.unscaled(here)) == (longrope(1).amplitude(FAR), 2)


def test_layers_with_different_widths_do_not_broadcast() -> None:
    with pytest.raises(Unsupported, match="1 factors for a layer that rotates 2 pairs"):
        longrope(2).spectrum(torch.tensor([1.0, 0.1]), FAR)


def test_linear_attention_does_not_support_its_temperature() -> None:
    assert not fits(LongRope, make_scheme("linear-rope", ModelConfig()))
    assert fits(extensions()["resonance"], make_scheme("linear-rope", ModelConfig()))
