"""Laws that cross packages: no leak."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fixtures.laws import FROM_ZERO, NAMES, ROUNDING, both_families, every_scheme, small, ways
from fixtures.models import CONTEXT, FAMILIES, gap, random_tokens

pytestmark = pytest.mark.every_processor

MODELS = {(name, family): small(name, family) for name in NAMES for family in FAMILIES}


@both_families
@every_scheme
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_future_never_reaches_the_past(name: str, family: str, data: st.DataObject) -> None:
    """Bit-equal: a masked key has a weight of exactly zero, in products of the same shape."""
    model = MODELS[name, family]
    length = data.draw(st.integers(2, CONTEXT), "length")
    kept = data.draw(st.integers(1, length - 1), "tokens kept")
    tokens = torch.tensor([data.draw(st.lists(st.integers(0, 60), min_size=length, max_size=length))])
    changed = tokens.clone()
    changed[:, kept:] = (changed[:, kept:] + data.draw(st.integers(1, 60), "shift")) % 61
    with torch.no_grad():
        for how in ways(model):
            before, after = model(tokens, **how), model(changed, **how)
            assert torch.equal(before[:, :kept], after[:, :kept]), how
            assert gap(before[:, kept], after[:, kept]) > 1e-4  # the change itself is seen at once


@torch.no_grad()
@both_families
@pytest.mark.parametrize("name", FROM_ZERO)
def test_a_prefix_alone_gives_what_it_gives_in_the_whole(name: str, family: str) -> None:
    model, tokens = MODELS[name, family], random_tokens(CONTEXT)
    whole = model(tokens)
    for length in range(1, CONTEXT):
        assert gap(model(tokens[:, :length]), whole[:, :length]) < ROUNDING


@both_families
@every_scheme
def test_no_gradient_flows_from_the_past_to_the_future(name: str, family: str) -> None:
    """d output(t) / d input(t + 1 …) is exactly zero, and no input up to t is ignored."""
    model, tokens = MODELS[name, family], random_tokens(CONTEXT, batch=1)
    for how in ways(model):
        seen: list[Tensor] = []
        hook = model.tokens.register_forward_hook(lambda *a, seen=seen: seen.append(a[2].retain_grad() or a[2]))
        # Not the sum: the outputs of a LayerNorm with equal weights would add up to a constant.
        model(tokens, **how)[0, 9].square().sum().backward()
        hook.remove()
        flow = seen[0].grad[0].abs().sum(-1)
        assert bool((flow[10:] == 0).all())
        assert bool((flow[:10] > 0).all())
    model.zero_grad()
