"""Tests of extensions that change rope's frequencies."""

from __future__ import annotations

from typing import Any

import torch

from fixtures.extension_models import LONG
from fixtures.models import CONTEXT, make_scheme
from posx.config.schema import ModelConfig
from posx.extensions.abf import ABF
from posx.extensions.base import Target
from posx.extensions.by_parts import ByParts
from posx.extensions.dynamic_ntk import DynamicNTK
from posx.extensions.llama3 import Llama3
from posx.extensions.longrope import LongRope
from posx.extensions.ntk import NTK
from posx.extensions.pi import PI
from posx.extensions.resonance import Resonance
from posx.extensions.yarn import Yarn


def test_frozen_parameters_act_at_every_length() -> None:
    theta = make_scheme("rope", ModelConfig(d_model=64, n_heads=1)).frequencies()
    cases: list[tuple[Any, dict[str, Any]]] = [(DynamicNTK, {"f": 4.0}), (ByParts, {}), (Yarn, {}), (Llama3, {})]
    cases.append((LongRope, {"factors": ":".join(["1.5"] * 32)}))
    for cls, own in cases:
        extension, far = cls(cls.Config(**own)), Target(CONTEXT, LONG)
        kept = cls(cls.Config(**{**own, **extension.frozen(far)}))
        for length in (5, CONTEXT, LONG, 1000):
            here = Target(CONTEXT, length)
            assert torch.equal(kept.spectrum(theta, here), extension.spectrum(theta, far)), cls
            assert kept.amplitude(here) == extension.amplitude(far)


def test_unrotated_pairs_are_unchanged() -> None:
    """p-rope's zeros stay zero under every scaling; other pairs are scaled as in rope."""
    theta = make_scheme("p-rope", ModelConfig(d_model=64, n_heads=1), kept=0.5).frequencies()
    whole = make_scheme("rope", ModelConfig(d_model=64, n_heads=1)).frequencies()
    slower = LongRope(LongRope.Config(factors=":".join(["1.5"] * 32)))
    plain = (PI, NTK, DynamicNTK, ABF, ByParts, Yarn, Llama3, Resonance)
    for extension in (slower, *(cls(cls.Config()) for cls in plain)):
        cls = type(extension)
        found = extension.spectrum(theta, Target(CONTEXT, LONG))
        assert bool((found[16:] == 0).all()), cls
        # The slope of a ramp by index is computed from the frequencies: equal to rounding.
        torch.testing.assert_close(found[:16], extension.spectrum(whole, Target(CONTEXT, LONG))[:16], rtol=1e-5, atol=0)
