"""Tests of ``posx.analysis.probe``."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import gap
from fixtures.shown_schemes import maps, subject_of
from posx.analysis.probe import Layer, content, grid, matrix, silence
from posx.extensions.base import NONE
from posx.models.attention.context import Call
from posx.models.attention.dispatch import attend_rotated, plan


@pytest.mark.parametrize("name", ["alibi", "cope", "dape", "forgetting", "rope", "stick-breaking", "transformer-xl"])
def test_one_query_at_a_time_equals_the_attention_of_the_model(name: str) -> None:
    """The probe's weights times values, compared with the output of posx.models.attention.dispatch."""
    one = subject_of(name, length="24")
    inputs = content(one.scheme, one.positions, seed=3)
    with torch.no_grad():
        probed = matrix(Layer(one.scheme, one.positions, inputs), "weights").nan_to_num()
        flow = plan(one.scheme, one.positions, NONE, Call(1, 4)).at(inputs.x)
        q, k = one.scheme.rotate(inputs.q, inputs.k, flow.site(0, 24))
        v = torch.randn(1, 4, 24, 8, generator=torch.Generator().manual_seed(4))
        assert gap(probed @ v, attend_rotated(q, k, v, flow)) < 1e-5


def test_a_long_matrix_is_subsampled() -> None:
    one = subject_of("alibi", length="1000")
    added = maps(one, "added")
    assert added.tokens == grid(1000).tolist() == list(range(0, 1000, 4))
    assert added.values["head 1"][-1, 0] == -0.25 * 996
    assert float(matrix(Layer(one.scheme, one.positions, silence(one.scheme, one.positions)), "added")[0, 5, 2]) == -3
