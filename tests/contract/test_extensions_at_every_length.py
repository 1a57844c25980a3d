"""Laws that cross packages: extensions at every length."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fixtures.models import CONTEXT, SCHEMES, extensions, gap, make_model, random_tokens
from fixtures.moved_pairs import DYNAMIC, STILL, a_scheme_for, applied
from posx.extensions.base import Target
from posx.models.binding import bind, fits, freeze, parse_extension, spec_name

pytestmark = pytest.mark.every_processor

OF_EACH_KIND = ("nope", "sinusoidal", "rope", "alibi", "t5", "shaw", "linear-rope", "ssmax")


@torch.no_grad()
@pytest.mark.parametrize("name", SCHEMES)
def test_every_extension_at_every_length(name: str) -> None:
    """At 1x, one past it, no multiple and 64x: finite, causal, the same after any history, and in blocks.

    At 64x one scheme of each kind, which is what time allows.
    """
    model = make_model(name)
    for text, cls in extensions().items():
        if not fits(cls, model.scheme) or not cls.variants(Target(CONTEXT, 2 * CONTEXT)):
            continue
        found: dict[int, Tensor] = {}
        far = [64 * CONTEXT] if name in OF_EACH_KIND else []
        for length in (CONTEXT, CONTEXT + 1, 41, *far, 41, CONTEXT):
            asked = "self-extend(w=8, G=8)" if text == "self-extend" and length > 41 else text
            if model.scheme.last_position is not None and text != "interpolate" and length > CONTEXT:
                continue
            tokens = random_tokens(length, batch=1)
            out = model(tokens, extension=applied(asked, model, length), tail=CONTEXT)
            assert out.isfinite().all(), (text, length)
            assert length not in found or torch.equal(out, found[length]), (text, length)
            found[length] = out
            if length == 41:
                changed = tokens.clone()
                changed[:, -5:] = (changed[:, -5:] + 1) % 61
                other = model(changed, extension=applied(asked, model, length), tail=CONTEXT)
                assert gap(other[:, :-5], out[:, :-5]) < 1e-5, text
                assert gap(model(tokens, extension=applied(asked, model, length), block=7)[:, -CONTEXT:], out) < 2e-5


@torch.no_grad()
@pytest.mark.parametrize("text", [*DYNAMIC, *STILL, "abf(base=20000)", "rerope", "sinks(n=2)", "lm-infinite(n=3)"])
def test_what_a_fine_tune_keeps_acts_at_every_length(text: str) -> None:
    """Frozen at 2.5 L it is, at every length, what it was there; and its name says so again when it is read."""
    name = a_scheme_for(text)
    model, long = make_model(name), 5 * CONTEXT // 2
    kept = parse_extension(spec_name(freeze(parse_extension(text), CONTEXT, long)))  # with ten digits
    assert spec_name(freeze(kept, CONTEXT, long)) == spec_name(kept)
    there = applied(text, model, long)
    for length in (CONTEXT - 3, long):
        tokens = random_tokens(length)
        asked = bind((), model.scheme, length, trained=kept, reached=long)
        assert gap(model(tokens, extension=asked), model(tokens, extension=there)) < 1e-5
