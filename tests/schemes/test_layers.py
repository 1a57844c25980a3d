"""Tests of ``posx.schemes.layers``."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import extend, gap, make_model, make_scheme, random_tokens
from fixtures.wrapped_schemes import TOLERANCE
from posx.config.schema import ModelConfig
from posx.errors import PosxError
from posx.models.binding import fits
from posx.models.classes import known_extensions

pytestmark = pytest.mark.every_processor


@torch.no_grad()
def test_equal_layers_are_the_scheme_itself() -> None:
    tokens = random_tokens(29)
    for name in ("rope", "alibi", "stick-breaking", "linear-rope", "ssmax"):
        itself = make_model(name, n_layers=3)
        assert gap(make_model("layers", n_layers=3, layers=[name])(tokens), itself(tokens)) < TOLERANCE
        if not list(itself.scheme.parameters()):  # otherwise, two entries have separate parameters
            assert gap(make_model("layers", n_layers=3, layers=[name, name])(tokens), itself(tokens)) < TOLERANCE


@torch.no_grad()
def test_parameters_exist_only_for_own_layers() -> None:
    """Gates in layers 0 and 2 of three: two rows, and layer 2 has the second."""
    model = make_model("layers", n_layers=3, layers=["forgetting", "nope"])
    assert model.scheme.inner[0].weight.shape[0] == 2
    tokens = random_tokens(20)
    before = [model(tokens)]
    for row in (0, 1):
        model.scheme.inner[0].offset[row] -= 3.0
        before.append(model(tokens))
    assert gap(before[0], before[1]) > 1e-2
    assert gap(before[1], before[2]) > 1e-2


def test_invalid_layers_are_refused() -> None:
    for layers, expected_message in (
        (["sinusoidal", "nope"], "acts on all layers"),
        ([], "names 0"),
        (["rope"] * 3, "names 3"),
    ):
        with pytest.raises(PosxError, match=expected_message):
            make_scheme("layers", ModelConfig(n_layers=2), layers=layers)


@torch.no_grad()
def test_extension_acts_on_layers_that_support_it() -> None:
    model = make_model("layers", layers=["rope", "nope"])
    known = known_extensions()
    assert fits(known["pi"], model.scheme)
    assert not fits(known["interpolate"], model.scheme)
    tokens = random_tokens(40)
    slow = make_model("layers", layers=["rope", "nope"])
    slow.scheme.inner[0].frequencies = lambda device=None: (
        type(slow.scheme.inner[0]).frequencies(slow.scheme.inner[0], device) / 2.5
    )
    assert gap(model(tokens, extension=extend(model, 40, pi={})), slow(tokens)) < TOLERANCE
