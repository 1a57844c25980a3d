"""Tests of ``posx.extensions.resonance``."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fixtures.longrope_runs import LONG
from fixtures.models import CONTEXT, extend, extensions, gap, make_model, make_scheme
from posx.config.schema import ModelConfig
from posx.errors import PosxError
from posx.models.binding import bind, check_fit, parse_extension

pytestmark = pytest.mark.every_processor


def resonant(theta: Tensor, *texts: str, length: int = LONG) -> Tensor:
    scheme = make_scheme("rope", ModelConfig(d_model=2 * len(theta), n_heads=1))
    before, *asked = [parse_extension(text) for text in texts]
    return bind(asked[0] if asked else before, scheme, length, before if asked else ()).spectrum(theta)


@pytest.mark.parametrize("length", [3, CONTEXT, LONG])
def test_wavelengths_are_whole_at_every_length(length: int) -> None:
    """2π → 6 and 628.3 → 628; a pair that does not rotate is unchanged."""
    found = resonant(torch.tensor([1.0, 0.01, 0.0]), "resonance", length=length)
    assert (2 * math.pi / found[:2]).tolist() == pytest.approx([6, 628])
    assert found[2] == 0


@pytest.mark.parametrize("scaled", ["pi(s=2.3)", "ntk", "yarn", "by-parts(ramp=paper)", "llama3", "longrope"])
def test_rounding_applies_after_a_scaling(scaled: str) -> None:
    """In any order, and also if the model was trained with it and the scaling is applied on top."""
    theta = make_scheme("rope", ModelConfig(d_model=32, n_heads=1)).frequencies()
    scaled += "(factors=" + ":".join(str(1 + k / 8) for k in range(16)) + ")" if scaled == "longrope" else ""
    found = resonant(theta, f"resonance+{scaled}")
    expected = [2 * math.pi / round(2 * math.pi / t) for t in resonant(theta, scaled).double().tolist()]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    for texts in ((f"{scaled}+resonance",), ("resonance", scaled)):
        assert torch.equal(resonant(theta, *texts), found)


def test_at_most_one_other_scaling() -> None:
    scheme = make_scheme("rope", ModelConfig(d_model=16, n_heads=1))
    for text in ("resonance+yarn", "window+pi+resonance+log-n"):
        check_fit(parse_extension(text), "rope", scheme, extensions())
    for text in ("resonance+yarn+ntk", "longrope(factors=1:1:1:1:1:1:1:1)+pi"):
        with pytest.raises(PosxError, match="both change the spectrum"):
            check_fit(parse_extension(text), "rope", scheme, extensions())


@torch.no_grad()
def test_with_whole_wavelengths_a_head_repeats_itself() -> None:
    """The angles of the fastest pair repeat every six tokens."""
    model = make_model("rope")
    cos, _ = model.scheme.prepare(torch.arange(LONG), extend(model, LONG, resonance={}))
    assert gap(cos[6:, 0], cos[:-6, 0]) < 2e-5
