"""Tests of ``posx.extensions.ntk``."""

from __future__ import annotations

import pytest
import torch
from x_transformers.x_transformers import RotaryEmbedding

from fixtures.extension_models import LONG, ROPE, assert_same
from fixtures.models import CONTEXT, extend, gap, make_model, make_scheme, random_tokens
from posx.config.schema import ModelConfig
from posx.extensions.base import Target
from posx.extensions.ntk import NTK
from posx.extensions.pi import ScaledConfig
from posx.verify.oracles import host_models as hosts

pytestmark = pytest.mark.every_processor


@pytest.mark.parametrize("rotated", [4, 6, 16, 64, 128])
@pytest.mark.parametrize("s", [1.0, 2.0, 3.7, 32.0])
def test_ntk_frequencies_are_those_of_x_transformers(rotated: int, s: float) -> None:
    """x-transformers changes the base, posx scales each frequency: equal to a few relative roundings."""
    scheme = make_scheme("rope", ModelConfig(d_model=rotated, n_heads=1))
    ours = NTK(ScaledConfig(s=s)).spectrum(scheme.frequencies(), Target(CONTEXT, LONG))
    theirs = RotaryEmbedding(rotated, base_rescale_factor=s).inv_freq
    assert gap(ours / theirs, torch.ones(rotated // 2)) < 3e-6
    # The highest is unchanged, the lowest is divided by s.
    assert ours[0] == 1
    assert abs(float(ours[-1] * s / scheme.frequencies()[-1]) - 1) < 1e-6


@pytest.mark.parametrize("length, given, acts", [(LONG, None, 4.0), (40, None, 2.5), (9, 8.0, 8.0), (LONG, 8.0, 8.0)])
def test_ntk_in_llama(length: int, given: float | None, acts: float) -> None:
    """Llama with the frequencies of x-transformers for this scale."""
    model = make_model("rope", family="llama", n_kv_heads=1)
    host = hosts.llama(model, ROPE)
    host.model.rotary_emb.inv_freq.copy_(RotaryEmbedding(16, base_rescale_factor=acts).inv_freq)
    assert_same(model, extend(model, length, ntk={"s": given}), host, length)


@torch.no_grad()
def test_single_pair_is_unchanged() -> None:
    """With two rotated dimensions the only frequency is the highest; the exponent would divide by zero."""
    model = make_model("rope", n_heads=24)
    tokens = random_tokens(LONG)
    assert torch.equal(model(tokens, extension=extend(model, LONG, ntk={"s": 4.0})), model(tokens))
