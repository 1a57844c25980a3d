"""Tests of ``posx.schemes.dape``."""

from __future__ import annotations

import pytest

from fixtures.models import make_model, make_scheme
from posx.config.schema import ModelConfig
from posx.errors import PosxError
from posx.extensions.rerope import ReRope
from posx.models.binding import fits
from posx.models.decoder import Decoder

pytestmark = pytest.mark.every_processor


def test_dape_requires_a_bias() -> None:
    with pytest.raises(PosxError, match="requires an inner scheme that only adds a bias"):
        make_scheme("dape", ModelConfig(), inner="rope")
    with pytest.raises(PosxError, match="must be at least 1"):
        make_scheme("dape", ModelConfig(), hidden=0)


def test_a_model_of_a_wrapper_is_a_decoder() -> None:
    assert isinstance(make_model("dape", inner="kerple-log"), Decoder)


def test_dape_does_not_support_distances() -> None:
    """Its inner scheme does, but the network needs all biases at once."""
    assert fits(ReRope, make_scheme("alibi", ModelConfig()))
    assert not fits(ReRope, make_scheme("dape", ModelConfig()))
