"""Tests of ``posx.extensions.by_parts``."""

from __future__ import annotations

from typing import Any

import torch

from fixtures.models import make_scheme
from posx.config.schema import ModelConfig
from posx.extensions.base import Target
from posx.extensions.by_parts import ByParts, ByPartsConfig
from posx.models.binding import bind, parse_extension


def test_rotations_are_counted_after_trained_extensions() -> None:
    """After a training with pi(s=4) at 4 L each pair turns as often in 4 L as it did in L: the ramp is the same."""
    context = 64
    scheme: Any = make_scheme("rope", ModelConfig(d_model=32, n_heads=1), context)
    trained = parse_extension("pi(s=4)")
    on_top = bind(parse_extension("by-parts"), scheme, 16 * context, trained=trained, reached=4 * context)
    alone = bind(parse_extension("by-parts"), scheme, 4 * context)
    theta = scheme.frequencies()
    torch.testing.assert_close(4 * on_top.spectrum(theta), alone.spectrum(theta), rtol=1e-6, atol=0)


def test_the_two_ramps_of_yarn_differ() -> None:
    """At L = 256, s = 4 and 128 dimensions they differ by more than two thirds on some pair."""
    scheme = make_scheme("rope", ModelConfig(d_model=128, n_heads=1), 256)
    target = Target(256, 1024)
    code, paper = (ByParts(ByPartsConfig(ramp=r)).spectrum(scheme.frequencies(), target) for r in ("code", "paper"))
    assert 0.67 < float((code / paper - 1).abs().max()) < 1.4
