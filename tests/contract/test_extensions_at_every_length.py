"""Extensions at 1x, just past it, and at 64x; and extensions that a fine-tune has frozen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fixtures.models import CONTEXT, SCHEMES, extensions, gap, make_model, random_tokens
from fixtures.moved_pairs import DYNAMIC, STILL, bound, scheme_for
from posx.extensions.base import Target
from posx.models.binding import bind, fits, freeze, parse_extension, spec_name

pytestmark = pytest.mark.every_processor

OF_EACH_KIND = ("nope", "sinusoidal", "rope", "alibi", "t5", "shaw", "linear-rope", "ssmax")


@torch.no_grad()
@pytest.mark.parametrize("name", SCHEMES)
def test_every_extension_at_every_length(name: str) -> None:
    """At 1x, one token more, a length that is not a multiple, and 64x: finite, causal, without state, equal in blocks.

    At 64x only one scheme of each kind, to save time.
    """
    model = make_model(name)
    for text, cls in extensions().items():
        if not fits(cls, model.scheme) or not cls.variants(Target(CONTEXT, 2 * CONTEXT)):
            continue
        outputs: dict[int, Tensor] = {}
        far = [64 * CONTEXT] if name in OF_EACH_KIND else []
        for length in (CONTEXT, CONTEXT + 1, 41, *far, 41, CONTEXT):
            spec = "self-extend(w=8, G=8)" if text == "self-extend" and length > 41 else text
            if model.scheme.last_position is not None and text != "interpolate" and length > CONTEXT:
                continue
            tokens = random_tokens(length, batch=1)
            out = model(tokens, extension=bound(spec, model, length), tail=CONTEXT)
            assert out.isfinite().all(), (text, length)
            assert length not in outputs or torch.equal(out, outputs[length]), (text, length)
            outputs[length] = out
            if length == 41:
                changed = tokens.clone()
                changed[:, -5:] = (changed[:, -5:] + 1) % 61
                other = model(changed, extension=bound(spec, model, length), tail=CONTEXT)
                assert gap(other[:, :-5], out[:, :-5]) < 1e-5, text
                assert gap(model(tokens, extension=bound(spec, model, length), block=7)[:, -CONTEXT:], out) < 2e-5


@torch.no_grad()
@pytest.mark.parametrize("text", [*DYNAMIC, *STILL, "abf(base=20000)", "rerope", "sinks(n=2)", "lm-infinite(n=3)"])
def test_a_frozen_extension_is_the_same_at_every_length(text: str) -> None:
    """Frozen at 2.5 L, it acts at every length as it does there, and its name parses to the same extension."""
    name = scheme_for(text)
    model, long = make_model(name), 5 * CONTEXT // 2
    frozen = parse_extension(spec_name(freeze(parse_extension(text), CONTEXT, long)))  # a name has ten digits
    assert spec_name(freeze(frozen, CONTEXT, long)) == spec_name(frozen)
    expected = bound(text, model, long)
    for length in (CONTEXT - 3, long):
        tokens = random_tokens(length)
        extension = bind((), model.scheme, length, trained=frozen, reached=long)
        assert gap(model(tokens, extension=extension), model(tokens, extension=expected)) < 1e-5
