"""Compositions of extensions: the order does not matter, and every part acts."""

from __future__ import annotations

import itertools

import pytest
import torch

from fixtures.extension_models import LONG, together
from fixtures.models import CONTEXT, extend, gap, make_model, random_tokens
from fixtures.moved_pairs import bound
from posx.extensions.base import Extension, Target
from posx.extensions.interpolate import Interpolate, InterpolateConfig
from posx.extensions.log_n import LogN, LogNConfig
from posx.extensions.ntk import NTK
from posx.extensions.pi import PI, ScaledConfig
from posx.extensions.resonance import Resonance
from posx.extensions.window import Window, WindowConfig
from posx.extensions.yarn import Yarn

pytestmark = pytest.mark.every_processor

COMPOSED = (
    ("rope", "yarn", "self-extend(w=4,G=2)", "log-n", "window(w=20)"),
    ("rope", "ntk", "rerope", "temperature", "sinks(n=1,w=3)"),
    ("alibi", "alibi-scale", "dual-chunk", "log-n", "temperature"),
    ("shaw", "leaky-rerope", "temperature", "window", "log-n"),
)


@torch.no_grad()
@pytest.mark.parametrize("name, parts", [(name, parts) for name, *parts in COMPOSED], ids=lambda x: str(x))
def test_the_order_never_matters(name: str, parts: list[str]) -> None:
    if "rerope" in parts and any(p.startswith("sinks") for p in parts):
        parts = [p for p in parts if not p.startswith("sinks")]
    model, tokens = make_model(name), random_tokens(41)
    first = model(tokens, extension=bound("+".join(parts), model, 41))
    for order in itertools.permutations(parts):
        assert torch.equal(model(tokens, extension=bound("+".join(order), model, 41)), first)


COMPOSITIONS = [
    ("rope", [Yarn(Yarn.Config()), LogN(LogNConfig()), Window(WindowConfig(w=5))]),
    ("rope", [Resonance(Resonance.Config()), NTK(ScaledConfig()), LogN(LogNConfig())]),
    ("rope", [PI(ScaledConfig()), Window(WindowConfig(w=5)), Window(WindowConfig(w=9))]),
    ("partial-rope", [NTK(ScaledConfig(s=3.0)), Window(WindowConfig())]),
    ("sinusoidal", [Interpolate(InterpolateConfig()), Window(WindowConfig(w=5))]),
    ("learned", [Interpolate(InterpolateConfig()), Window(WindowConfig(w=5))]),
]


@torch.no_grad()
@pytest.mark.parametrize("name, parts", COMPOSITIONS, ids=[name for name, _ in COMPOSITIONS])
def test_the_order_of_applied_parts_never_matters(name: str, parts: list[Extension]) -> None:
    """Bit-equal: Applied does not sort its parts, and parts that change different things commute exactly."""
    model = make_model(name)
    target = extend(model, LONG, window={}).target
    assert target is not None
    tokens = random_tokens(LONG)
    first, *others = (model(tokens, extension=together(order, target)) for order in itertools.permutations(parts))
    assert all(torch.equal(first, other) for other in others)
    # Every part acts: leaving any of them out (except the wider window) changes the result.
    for part in parts:
        if isinstance(part, Window) and part.config.w == 9:
            continue
        rest = [p for p in parts if p is not part]
        if name == "learned" and isinstance(part, Interpolate):
            continue  # it requires interpolation
        assert gap(model(tokens, extension=together(rest, target)), first) > 1e-3


@torch.no_grad()
def test_masks_intersect() -> None:
    model = make_model("alibi")
    tokens, target = random_tokens(LONG), Target(CONTEXT, LONG)
    wide, narrow = Window(WindowConfig(w=9)), Window(WindowConfig(w=5))
    both = model(tokens, extension=together([wide, narrow], target))
    assert torch.equal(both, model(tokens, extension=together([narrow], target)))


@torch.no_grad()
@pytest.mark.parametrize("name", ["rope", "alibi"])
@pytest.mark.parametrize("sharper", ["log-n", "temperature(factor=1.5)"])
def test_moved_pairs_have_the_same_temperature(name: str, sharper: str) -> None:
    """With k just above 1, all pairs from w on take the other branch, and move by less than 4e-5."""
    model, tokens = make_model(name), random_tokens(41)
    alone = model(tokens, extension=bound(sharper, model, 41))
    both = model(tokens, extension=bound(f"leaky-rerope(w=4,k=1.000001)+{sharper}", model, 41))
    assert gap(both, alone) < 1e-3
    assert gap(model(tokens, extension=bound("leaky-rerope(w=4,k=1.000001)", model, 41)), alone) > 1e-2
