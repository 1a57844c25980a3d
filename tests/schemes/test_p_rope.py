"""Tests of ``posx.schemes.p_rope``."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from fixtures.models import gap, make_scheme
from posx.config.schema import ModelConfig
from posx.errors import PosxError


@pytest.mark.parametrize("kept", [0.1, 0.25, 0.5, 0.7, 0.75, 15 / 22, 0.999, 1.0])  # 15 / 22 · 22 < 15
@pytest.mark.parametrize("head_dim", [8, 16, 20, 44, 64])
def test_frequencies_match_transformers(kept: float, head_dim: int) -> None:
    """The number of rotated pairs also matches: transformers rounds down."""
    parameters = {"rope_type": "proportional", "rope_theta": 500.0, "partial_rotary_factor": kept}
    config = LlamaConfig(hidden_size=head_dim, num_attention_heads=1, rope_parameters=parameters)
    expected, _ = ROPE_INIT_FUNCTIONS["proportional"](config, device=torch.device("cpu"))
    ours = ModelConfig(d_model=head_dim, n_heads=1)
    if not expected.any():
        with pytest.raises(PosxError, match="leaves none of"):
            make_scheme("p-rope", ours, kept=kept, base=500.0)
        return
    assert gap(make_scheme("p-rope", ours, kept=kept, base=500.0).frequencies(), expected) < 1e-7
