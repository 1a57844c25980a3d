"""Tests of ``posx.schemes.cope``."""

from __future__ import annotations

import pytest
import torch

from fixtures.logit_schemes import TOLERANCE
from fixtures.models import CONTEXT, gap, make_model, make_scheme, random_tokens
from posx.config.schema import ModelConfig
from posx.errors import PosxError

pytestmark = pytest.mark.every_processor


def test_cope_starts_without_positions() -> None:
    nope, cope = (make_model(name, sharp=False) for name in ("nope", "cope"))
    tokens = random_tokens(CONTEXT)
    with torch.no_grad():
        assert gap(cope(tokens), nope(tokens)) < TOLERANCE
    assert make_scheme("cope", ModelConfig(), p_max=None).p_max == CONTEXT - 1
    with pytest.raises(PosxError, match="must be at least 1"):
        make_scheme("cope", ModelConfig(), p_max=0)
