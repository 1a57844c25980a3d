"""Up to the training context, extensions change nothing; and they never change the model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fixtures.extension_models import LONG, TOLERANCE
from fixtures.models import CONTEXT, SCHEMES, extend, extensions, gap, make_model, needed, random_tokens
from fixtures.moved_pairs import DYNAMIC, STILL, bound, scheme_for
from posx.extensions.base import NONE
from posx.models.attention.dispatch import forced
from posx.models.binding import fits, parse_extension
from posx.schemes.base import Scheme

pytestmark = pytest.mark.every_processor


@torch.no_grad()
@pytest.mark.parametrize("text", DYNAMIC)
def test_up_to_the_training_context_the_result_is_bit_equal(text: str) -> None:
    model = make_model(scheme_for(text))
    for length in (1, 7, CONTEXT):
        tokens = random_tokens(length)
        assert torch.equal(model(tokens, extension=bound(text, model, length)), model(tokens)), length
    tokens = random_tokens(CONTEXT)
    if text != "interpolate":  # beyond the training context it acts
        tokens = random_tokens(4 * CONTEXT - 12)
        assert gap(model(tokens, extension=bound(text, model, tokens.shape[1])), model(tokens)) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("text", STILL)
@pytest.mark.parametrize("name", ["rope", "alibi", "t5", "shaw", "nope"])
def test_up_to_the_training_context_the_result_is_equal_to_rounding(text: str, name: str) -> None:
    model = make_model(name)
    if not all(fits(type(spec), model.scheme) for spec in parse_extension(text)):
        return
    for length in (1, 7, CONTEXT):
        tokens = random_tokens(length)
        assert gap(model(tokens, extension=bound(text, model, length)), model(tokens)) < 2e-5


def supported(scheme: Scheme) -> list[str]:
    return sorted(name for name, cls in extensions().items() if fits(cls, scheme))


@torch.no_grad()
@pytest.mark.parametrize("name", SCHEMES)
def test_without_an_extension_the_model_is_unchanged(name: str) -> None:
    """No extension, and every extension at ℓ ≤ L: bit-equal with the same backend.

    Pairs that take another branch at the same distance are equal to rounding. So is an extension with a different
    backend than the plain model, which depends on the processor.
    """
    model = make_model(name)
    tokens = random_tokens(CONTEXT - 3)
    plain = model(tokens)
    assert torch.equal(model(tokens, extension=NONE), plain)
    assert torch.equal(model(tokens, extension=extend(model, CONTEXT - 3)), plain)
    for extension_name in supported(model.scheme):
        extension = extend(model, CONTEXT - 3, **{extension_name: needed(extension_name, model.scheme)})
        output = model(tokens, extension=extension)
        # A different base, different wavelengths and limited distances apply at every length.
        if extension_name in ("abf", "resonance", "rerope"):
            assert gap(output, plain) > 1e-4, extension_name
            continue
        assert gap(output, plain) < TOLERANCE, extension_name
        if extension_name not in ("dual-chunk", "sinks"):
            with forced("blocks"):
                assert torch.equal(model(tokens, extension=extension), model(tokens)), extension_name


@torch.no_grad()
@pytest.mark.parametrize("name", SCHEMES)
def test_no_extension_changes_the_model(name: str) -> None:
    """After long and short passes with every extension, all weights and a plain pass are bit-equal."""

    def weights() -> dict[str, Tensor]:
        return {k: t.clone() for k, t in [*model.named_parameters(), *model.named_buffers()]}

    model = make_model(name)
    tokens = random_tokens(LONG)
    before, plain = weights(), model(tokens[:, :CONTEXT])
    for extension in supported(model.scheme):
        settings = needed(extension, model.scheme)
        if model.scheme.last_position is None or extension == "interpolate":
            first = model(tokens, extension=extend(model, LONG, **{extension: settings}))
            model(tokens[:, :5], extension=extend(model, 5, **{extension: settings}))
            again = model(tokens, extension=extend(model, LONG, **{extension: settings}))
            assert torch.equal(first, again), extension
        else:
            model(tokens[:, :CONTEXT], extension=extend(model, CONTEXT, **{extension: settings}))
        after = weights()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[k], before[k]) for k in before), extension
        assert torch.equal(model(tokens[:, :CONTEXT]), plain), extension
