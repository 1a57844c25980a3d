"""Laws that cross packages: extensions within context."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fixtures.extension_models import LONG, TOLERANCE
from fixtures.models import CONTEXT, SCHEMES, extend, extensions, gap, make_model, needed, random_tokens
from fixtures.moved_pairs import DYNAMIC, STILL, a_scheme_for, applied
from posx.extensions.base import NONE
from posx.models.attention.dispatch import forced
from posx.models.binding import fits, parse_extension
from posx.schemes.base import Scheme

pytestmark = pytest.mark.every_processor


@torch.no_grad()
@pytest.mark.parametrize("text", DYNAMIC)
def test_up_to_the_training_context_nothing_changes_to_the_bit(text: str) -> None:
    model = make_model(a_scheme_for(text))
    for length in (1, 7, CONTEXT):
        tokens = random_tokens(length)
        assert torch.equal(model(tokens, extension=applied(text, model, length)), model(tokens)), length
    tokens = random_tokens(CONTEXT)
    if text != "interpolate":  # beyond, it does something
        tokens = random_tokens(4 * CONTEXT - 12)
        assert gap(model(tokens, extension=applied(text, model, tokens.shape[1])), model(tokens)) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("text", STILL)
@pytest.mark.parametrize("name", ["rope", "alibi", "t5", "shaw", "nope"])
def test_up_to_the_training_context_it_is_the_same_to_rounding(text: str, name: str) -> None:
    model = make_model(name)
    if not all(fits(type(spec), model.scheme) for spec in parse_extension(text)):
        return
    for length in (1, 7, CONTEXT):
        tokens = random_tokens(length)
        assert gap(model(tokens, extension=applied(text, model, length)), model(tokens)) < 2e-5


def fitting(scheme: Scheme) -> list[str]:
    return sorted(name for name, cls in extensions().items() if fits(cls, scheme))


@torch.no_grad()
@pytest.mark.parametrize("name", SCHEMES)
def test_no_extension_is_the_model_as_it_is(name: str) -> None:
    """No extension, and every extension where there is nothing to extend (ℓ ≤ L): bit-equal by the same backend.

    Pairs that stand elsewhere at the same distance are the same to rounding. So is an extension for which posx chooses
    another backend than for the plain model: which one depends on the processor.
    """
    model = make_model(name)
    tokens = random_tokens(CONTEXT - 3)
    plain = model(tokens)
    assert torch.equal(model(tokens, extension=NONE), plain)
    assert torch.equal(model(tokens, extension=extend(model, CONTEXT - 3)), plain)
    for one in fitting(model.scheme):
        applied_one = extend(model, CONTEXT - 3, **{one: needed(one, model.scheme)})
        found = model(tokens, extension=applied_one)
        # Another base, other wavelengths, or distances that end, are so at every length.
        if one in ("abf", "resonance", "rerope"):
            assert gap(found, plain) > 1e-4, one
            continue
        assert gap(found, plain) < TOLERANCE, one
        if one not in ("dual-chunk", "sinks"):
            with forced("blocks"):
                assert torch.equal(model(tokens, extension=applied_one), model(tokens)), one


@torch.no_grad()
@pytest.mark.parametrize("name", SCHEMES)
def test_no_extension_changes_the_model(name: str) -> None:
    """After long and short passes under every extension: all values, and a plain pass, are bit-equal."""

    def everything() -> dict[str, Tensor]:
        return {k: t.clone() for k, t in [*model.named_parameters(), *model.named_buffers()]}

    model = make_model(name)
    tokens = random_tokens(LONG)
    before, plain = everything(), model(tokens[:, :CONTEXT])
    for asked in fitting(model.scheme):
        own = needed(asked, model.scheme)
        if model.scheme.last_position is None or asked == "interpolate":
            first = model(tokens, extension=extend(model, LONG, **{asked: own}))
            model(tokens[:, :5], extension=extend(model, 5, **{asked: own}))
            again = model(tokens, extension=extend(model, LONG, **{asked: own}))
            assert torch.equal(first, again), asked
        else:
            model(tokens[:, :CONTEXT], extension=extend(model, CONTEXT, **{asked: own}))
        after = everything()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[k], before[k]) for k in before), asked
        assert torch.equal(model(tokens[:, :CONTEXT]), plain), asked
