"""Tests of ``posx.analysis.probe``: extensions."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import gap
from fixtures.shown_extensions import FEWER, SMALL, subject_of
from posx.analysis.probe import Layer, content, matrix, parts
from posx.models.attention.context import Call
from posx.models.attention.dispatch import attend, plan
from posx.models.binding import fits, parse_extension
from posx.models.build import compose_run, scheme_of


@pytest.mark.parametrize("extension", ["none", "yarn+window", "self-extend(w=4,G=4)", "dual-chunk+log-n", "sinks",
                                       "lm-infinite", "temperature", "alibi-scale+rerope", "interpolate"])  # fmt: skip
@pytest.mark.parametrize("name", ["alibi", "fire", "learned", "nope", "rope", "shaw", "ssmax", "t5", "xpos", "layers"])
def test_the_probe_equals_the_attention_of_the_model(name: str, extension: str) -> None:
    """The probe's weights times values, compared with the model's attention, both with the extension."""
    specs, config = parse_extension(extension), compose_run([f"scheme={name}", *SMALL, *FEWER.get(name, ())])
    if not all(fits(type(spec), scheme_of(config)) for spec in specs):
        return
    one = subject_of(name, extension, length="40")
    inputs = content(one.scheme, one.positions, seed=3)
    n = one.length
    with torch.no_grad():
        scheme = parts(one.scheme)[0].scheme
        probed = matrix(Layer(scheme, one.positions, inputs, one.extension), "weights").nan_to_num()
        v = torch.randn(1, 4, n, 8, generator=torch.Generator().manual_seed(4))
        flow = plan(scheme, one.positions, one.extension, Call(1, 4, backend="dense")).at(inputs.x)
        assert gap(probed @ v, attend(inputs.q, inputs.k, v, flow)) < 2e-5
