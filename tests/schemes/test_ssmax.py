"""Tests of ``posx.schemes.ssmax``."""

from __future__ import annotations

import math

import pytest

from fixtures.models import CONTEXT, make_model, make_scheme
from posx.config.schema import ModelConfig
from posx.errors import PosxError

pytestmark = pytest.mark.every_processor


def test_ssmax_starts_with_the_usual_softmax_at_the_end_of_the_context() -> None:
    """s · ln L = 1, so that the last query of L attends as in the inner scheme."""
    scheme = make_model("ssmax", sharp=False).scheme
    assert scheme.s.shape == (2, 3)
    assert float(scheme.s[1, 2] * math.log(CONTEXT)) == pytest.approx(1)
    with pytest.raises(PosxError, match="does not support inner schemes"):
        make_scheme("ssmax", ModelConfig(), inner="stick-breaking")
