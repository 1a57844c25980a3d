"""Tests of ``posx.schemes.randomized``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fixtures.models import CONTEXT, gap, make_model, make_scheme, random_tokens
from fixtures.wrapped_schemes import TOLERANCE
from posx.config.schema import ModelConfig
from posx.errors import Unsupported

pytestmark = pytest.mark.every_processor


def test_randomized_positions_are_a_sorted_sample() -> None:
    """Of 4,000 sequences of 5 out of 0 .. 19: distinct, ascending numbers, each with equal frequency.

    A number is in a sample with probability 1/4: 1,000 times, with a standard deviation of 27. Order
    statistic k of n out of M has the mean k (M + 1) / (n + 1) − 1.
    """
    scheme = make_scheme("randomized", ModelConfig(), longest=20)
    sample = scheme.train_positions(4000, 5, torch.Generator().manual_seed(0))
    assert sample.shape == (4000, 5)
    assert sample.dtype == torch.int64
    assert bool((sample.diff() > 0).all())
    assert int(sample.min()) == 0
    assert int(sample.max()) == 19
    assert bool(((torch.bincount(sample.flatten(), minlength=20) - 1000).abs() < 5 * 27).all())
    expected = torch.tensor([k * 21 / 6 - 1 for k in range(1, 6)])
    assert gap(sample.double().mean(0), expected) < 0.3
    again = scheme.train_positions(4000, 5, torch.Generator().manual_seed(0))
    assert torch.equal(sample, again)


def test_randomized_positions_in_evaluation() -> None:
    def of(**settings: Any) -> Tensor:
        return make_scheme("randomized", ModelConfig(), longest=64, **settings).positions(22)

    sample = of(evaluation="sample")
    assert torch.equal(sample, of(evaluation="sample"))
    assert bool((sample.diff() > 0).all())
    assert len(sample) == 22
    assert not torch.equal(sample, torch.arange(22))
    assert torch.equal(of(evaluation="first"), torch.arange(22))
    assert of(evaluation="spread").tolist() == [3 * n for n in range(22)]
    assert torch.equal(make_scheme("randomized", ModelConfig(), longest=64).positions(64), torch.arange(64))
    with pytest.raises(Unsupported, match="randomized positions end at 64"):
        make_scheme("randomized", ModelConfig(), longest=64).positions(65)
    assert make_scheme("randomized", ModelConfig(), longest=None).last_position == 64 * CONTEXT - 1


@torch.no_grad()
@pytest.mark.parametrize("inner", ["sinusoidal", "learned", "rope", "alibi"])
def test_the_inner_scheme_sees_the_positions(inner: str) -> None:
    """The same weights: a model of the inner scheme itself, whose table is as long, at the drawn positions."""
    model = make_model("randomized", inner=inner, longest=40)
    itself = make_model(inner, context=40)
    itself.load_state_dict({k.replace("scheme.inner.", "scheme."): v for k, v in model.state_dict().items()})
    tokens = random_tokens(30)
    positions = model.scheme.positions(30)
    assert gap(model(tokens), itself(tokens, positions)) < TOLERANCE
    each = model.scheme.train_positions(2, 30, torch.Generator().manual_seed(3))
    assert gap(model(tokens, each), itself(tokens, each)) < TOLERANCE
