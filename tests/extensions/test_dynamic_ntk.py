"""Tests of ``posx.extensions.dynamic_ntk``."""

from __future__ import annotations

import torch

from fixtures.extension_models import LONG
from fixtures.models import CONTEXT, make_scheme
from posx.config.schema import ModelConfig
from posx.extensions.base import Target
from posx.extensions.dynamic_ntk import DynamicNTK, DynamicNTKConfig
from posx.extensions.ntk import NTK
from posx.extensions.pi import ScaledConfig


def test_a_known_scale_of_dynamic_ntk() -> None:
    """f = 4 at 4 L is ntk with s = 13; up to L the very same bits."""
    theta = make_scheme("rope", ModelConfig(d_model=64, n_heads=1)).frequencies()
    dynamic, far = DynamicNTK(DynamicNTKConfig(f=4.0)), Target(CONTEXT, LONG)
    assert torch.equal(dynamic.spectrum(theta, far), NTK(ScaledConfig(s=13.0)).spectrum(theta, far))
    assert torch.equal(dynamic.spectrum(theta, Target(CONTEXT, CONTEXT)), theta)
    assert dynamic.resolved(far) == {"f": 4.0, "s": 13.0}
