"""No scheme leaks later tokens into earlier outputs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fixtures.laws import FROM_ZERO, NAMES, ROUNDING, backends, both_families, every_scheme, small_model
from fixtures.models import CONTEXT, FAMILIES, gap, random_tokens

pytestmark = pytest.mark.every_processor

MODELS = {(name, family): small_model(name, family) for name in NAMES for family in FAMILIES}


@both_families
@every_scheme
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_future_never_reaches_the_past(name: str, family: str, data: st.DataObject) -> None:
    """Bit-equal: masked keys have weight zero, and the products have the same shape."""
    model = MODELS[name, family]
    length = data.draw(st.integers(2, CONTEXT), "length")
    prefix = data.draw(st.integers(1, length - 1), "unchanged tokens")
    tokens = torch.tensor([data.draw(st.lists(st.integers(0, 60), min_size=length, max_size=length))])
    changed = tokens.clone()
    changed[:, prefix:] = (changed[:, prefix:] + data.draw(st.integers(1, 60), "shift")) % 61
    with torch.no_grad():
        for how in backends(model):
            before, after = model(tokens, **how), model(changed, **how)
            assert torch.equal(before[:, :prefix], after[:, :prefix]), how
            assert gap(before[:, prefix], after[:, prefix]) > 1e-4  # the changed token itself has an effect


@torch.no_grad()
@both_families
@pytest.mark.parametrize("name", FROM_ZERO)
def test_a_prefix_alone_equals_the_prefix_of_the_whole(name: str, family: str) -> None:
    model, tokens = MODELS[name, family], random_tokens(CONTEXT)
    whole = model(tokens)
    for length in range(1, CONTEXT):
        assert gap(model(tokens[:, :length]), whole[:, :length]) < ROUNDING


@both_families
@every_scheme
def test_no_gradient_flows_from_the_past_to_the_future(name: str, family: str) -> None:
    """d output(t) / d input(t + 1 …) is exactly zero, and nonzero for every input up to t."""
    model, tokens = MODELS[name, family], random_tokens(CONTEXT, batch=1)
    for how in backends(model):
        seen: list[Tensor] = []
        hook = model.tokens.register_forward_hook(lambda *a, seen=seen: seen.append(a[2].retain_grad() or a[2]))
        # Squares, because the outputs of a LayerNorm with equal weights sum to a constant.
        model(tokens, **how)[0, 9].square().sum().backward()
        hook.remove()
        flow = seen[0].grad[0].abs().sum(-1)
        assert bool((flow[10:] == 0).all())
        assert bool((flow[:10] > 0).all())
    model.zero_grad()
