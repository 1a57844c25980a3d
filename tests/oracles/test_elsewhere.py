"""What extensions of positions, masks and temperatures promise, beside the oracles that elsewhere.py holds them to."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from helpers import CONTEXT, SCHEMES, extensions, gap, make_model, make_scheme, random_tokens
from posx.config.schema import ModelConfig
from posx.errors import PosxError, Unsupported
from posx.extensions.base import NONE, Applied, Target
from posx.models.binding import bind, fits, freeze, parse_extension, spec_name
from posx.models.decoder import Decoder

# Up to L these are the model itself, to the bit: what they change begins beyond.
DYNAMIC = (
    "pi", "ntk", "dynamic-ntk", "dynamic-ntk(f=4)", "by-parts", "by-parts(ramp=paper)", "yarn", "llama3", "self-extend",
    "leaky-rerope", "log-n", "temperature", "alibi-scale", "interpolate",
)  # fmt: skip
# These take another way to the same numbers.
STILL = ("window", "sinks", "lm-infinite", "dual-chunk")
OF_EACH_KIND = ("nope", "sinusoidal", "rope", "alibi", "t5", "shaw", "linear-rope", "ssmax")
WITHIN = {  # distances that stay below L, at every length
    "self-extend(w=4)": 4, "leaky-rerope": 8, "leaky-rerope(w=3)": 3, "dual-chunk": 12, "dual-chunk(s=5)": 5,
    "sinks": 12, "sinks(n=2, w=5)": 5,
}  # fmt: skip


def applied(text: str, model: Decoder, length: int) -> Applied:
    """The extension at that length."""
    return bind(parse_extension(text), model.scheme, length)


def a_scheme_for(text: str) -> str:
    """The first of some schemes that all its parts fit."""
    for name in ("rope", "alibi", "learned"):
        if all(fits(type(spec), make_model(name).scheme) for spec in parse_extension(text)):
            return name
    raise AssertionError(text)


def distances(extension: Applied, length: int) -> Tensor:
    """Where query and key stand from each other, float64 [T, T], NaN where a key is not seen; once for each pair."""
    i, j = torch.arange(length)[:, None], torch.arange(length)
    found = (i - j).double().expand(length, length).clone()
    taken = torch.zeros(length, length, dtype=torch.bool)
    zero = torch.zeros((), dtype=torch.long)
    for branch in extension.branches():
        where = branch.where(zero, zero, i, j).expand(length, length) & (i >= j)
        assert not (taken & where).any(), "two branches share a pair"
        taken |= where
        apart = branch.queries(i).double() - branch.keys(j).double()
        found = torch.where(where, apart.expand(length, length), found)
    for mask in extension.masks():
        found = found.masked_fill(~mask(zero, zero, i, j), float("nan"))
    return found.masked_fill(i < j, float("nan"))


@given(st.sampled_from(sorted(WITHIN)), st.integers(1, 300))
def test_distances_stay_among_those_trained(text: str, length: int) -> None:
    """None is below 0 or reaches L, and the nearest ones are as they stand."""
    model = make_model("rope")
    try:
        extension = applied(text, model, length)
        found = distances(extension, length)
    except Unsupported:
        assert text.startswith("self-extend")
        assert length > (CONTEXT - 4) * 4 + 4
        return
    seen = found[~found.isnan()]
    assert seen.min() >= 0
    assert seen.max() <= CONTEXT - 1 + 1e-4  # fractions in float32
    near = torch.arange(length)[:, None] - torch.arange(length)
    near = (near >= 0) & (near < WITHIN[text]) & ~torch.isnan(found)
    if not text.startswith("dual-chunk"):
        exact = (torch.arange(length)[:, None] - torch.arange(length)).double()
        assert torch.equal(found[near], exact[near])


@given(st.integers(1, 300))
def test_lm_infinite_and_rerope_end_where_they_say(length: int) -> None:
    model = make_model("rope")
    for text, most in (("rerope", CONTEXT // 2), ("rerope(w=3)", 3), ("lm-infinite", CONTEXT)):
        found = distances(applied(text, model, length), length)
        assert float(found[~found.isnan()].max()) == min(most, length - 1)


def test_known_distances() -> None:
    """The last query's, by hand."""
    model = make_model("rope")

    def last(text: str, length: int) -> list[float | None]:
        row = distances(applied(text, model, length), length)[-1].tolist()
        return [None if x != x else x for x in row]

    # ⌊9/2⌋ − ⌊j/2⌋ + 4 − 2 for the six keys that are 4 and more away.
    assert last("self-extend(w=4, G=2)", 10) == [6, 6, 5, 5, 4, 4, 3, 2, 1, 0]
    # The cache holds keys 0, 1 and 7, 8, 9 at the places 0 to 4.
    assert last("sinks(n=2, w=3)", 10) == [4, 3, None, None, None, None, None, 2, 1, 0]
    assert last("lm-infinite(n=1, w=3, limit=4)", 10) == [4, *[None] * 6, 2, 1, 0]
    # Chunks of 4, positions to 5: query 9 stands at 4 + 1 to the chunk before, at 5 to that before.
    assert last("dual-chunk(s=4, last=5)", 10) == [5, 4, 3, 2, 5, 4, 3, 2, 1, 0]
    assert last("leaky-rerope(w=2, k=4)", 8) == [3.25, 3.0, 2.75, 2.5, 2.25, 2.0, 1, 0]


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


COMPOSED = (
    ("rope", "yarn", "self-extend(w=4,G=2)", "log-n", "window(w=20)"),
    ("rope", "ntk", "rerope", "temperature", "sinks(n=1,w=3)"),
    ("alibi", "alibi-scale", "dual-chunk", "log-n", "temperature"),
    ("shaw", "leaky-rerope", "temperature", "window", "log-n"),
)


@torch.no_grad()
@pytest.mark.parametrize("name, parts", [(name, parts) for name, *parts in COMPOSED], ids=lambda x: str(x))
def test_the_order_never_matters(name: str, parts: list[str]) -> None:
    if "rerope" in parts and any(p.startswith("sinks") for p in parts):
        parts = [p for p in parts if not p.startswith("sinks")]
    model, tokens = make_model(name), random_tokens(41)
    first = model(tokens, extension=applied("+".join(parts), model, 41))
    for order in itertools.permutations(parts):
        assert torch.equal(model(tokens, extension=applied("+".join(order), model, 41)), first)


@torch.no_grad()
def test_temperatures_multiply() -> None:
    """λ = 2 and then log-n is q·2·log-n, for a scheme without a bias."""
    model, tokens = make_model("nope"), random_tokens(41)
    both = model(tokens, extension=applied("temperature(factor=2)+log-n", model, 41))
    for layer in model.blocks:
        layer.attention.q.weight *= 2
    assert gap(both, model(tokens, extension=applied("log-n", model, 41))) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", ["cope", "stick-breaking", "dape", "transformer-xl"])
def test_temperature_multiplies_what_enters_the_softmax(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheme whose own weights are of logits times λ."""
    model, tokens = make_model(name), random_tokens(29)
    found = model(tokens, extension=applied("temperature(factor=1.7)", model, 29))
    weights = type(model.scheme).weights
    monkeypatch.setattr(type(model.scheme), "weights", lambda self, logits, site: weights(self, logits * 1.7, site))
    assert gap(found, model(tokens, extension=NONE)) < 2e-5


REFUSED = (
    ("nope", "rerope", "distances"),
    ("sinusoidal", "self-extend", "distances"),
    ("forgetting", "dual-chunk", "distances"),
    ("rope", "alibi-scale", "slopes"),
    ("linear-rope", "sinks", "mask"),
    ("rope", "sinks+self-extend", "both change the distances"),
    ("rope", "rerope+leaky-rerope", "both change the distances"),
    ("nope", "sinks+lm-infinite", "both change the distances"),
    ("alibi", "alibi-scale+pi", "spectrum"),
)


@pytest.mark.parametrize("name, text, said", REFUSED)
def test_what_makes_no_sense_is_refused(name: str, text: str, said: str) -> None:
    from posx.models.binding import check_fit

    with pytest.raises(PosxError, match=said):
        check_fit(parse_extension(text), name, make_model(name).scheme, extensions())


BAD: tuple[tuple[str, str], ...] = (
    ("self-extend(w=5, G=2)", "must divide"),
    ("self-extend(w=0)", "at least 1"),
    ("rerope(w=0)", "at least 1"),
    ("leaky-rerope(k=0.5)", "extends nothing"),
    ("dual-chunk(s=0)", "at least 1"),
    ("dual-chunk(s=9, last=3)", "within a chunk"),
    ("sinks(n=0)", "at least 1"),
    ("lm-infinite(limit=0)", "at least 1"),
    ("temperature(factor=0)", "above 0"),
    ("temperature(c=-1)", "at least 0"),
    ("alibi-scale(s=0.5)", "extends nothing"),
    ("sinks(k=3)", "k"),
    ("rerope(w=many)", "w"),
    ("window(w=99999999999999999999)", "too large"),
    ("self-extend(w=99999999999999)", "too large"),
    ("longrope(factors=no,such.yaml)", "no,such.yaml"),
    ("resonance(when=during)", "after or before"),
)


@pytest.mark.parametrize("text, said", BAD)
def test_parameters_that_make_no_sense(text: str, said: str) -> None:
    with pytest.raises(PosxError, match=said):
        parse_extension(text)


@pytest.mark.parametrize(
    "text, length", [("self-extend", 300), ("sinks(n=16)", 40), ("sinks(n=8, w=9)", 40), ("dual-chunk(s=17)", 40)]
)
def test_what_cannot_be_at_this_context_says_so(text: str, length: int) -> None:
    """A cell of a table, not the end of an evaluation."""
    model = make_model("rope")
    with pytest.raises(Unsupported):
        model(random_tokens(length, batch=1), extension=applied(text, model, length))


@pytest.mark.parametrize("text", ["self-extend(w=4,G=2)", "leaky-rerope", "sinks", "temperature(c=0.5)"])
@pytest.mark.parametrize("name", ["rope", "alibi", "shaw"])
def test_gradients_are_slopes_of_the_loss(name: str, text: str) -> None:
    """Of a fine-tune with the extension: along the gradient, as far as changes the loss by a hundredth."""
    model = make_model(name)
    tokens = random_tokens(2 * CONTEXT)
    extension: Any = applied(text, model, 2 * CONTEXT)

    def loss() -> Tensor:
        return model(tokens, extension=extension).square().mul(torch.linspace(0.5, 1.5, 48)).sum()

    first = loss()
    first.backward()
    parameters = [p for p in model.parameters() if p.grad is not None]
    gradients = [p.grad.clone() for p in parameters]
    square = sum(float((g**2).sum()) for g in gradients)
    step = 0.01 * float(first.detach()) / square
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            for p, g in zip(parameters, gradients, strict=True):
                p += sign * step * g
            values.append(float(loss()))
    slope = (values[0] - values[1]) / (2 * step)
    assert abs(slope / square - 1) < 2e-2


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


def test_by_parts_counts_the_turns_that_a_trained_model_makes() -> None:
    """After a training with pi(s=4) at 4 L each pair turns as often in 4 L as it did in L: the ramp is the same."""
    context = 64
    scheme: Any = make_scheme("rope", ModelConfig(d_model=32, n_heads=1), context)
    trained = parse_extension("pi(s=4)")
    on_top = bind(parse_extension("by-parts"), scheme, 16 * context, trained=trained, reached=4 * context)
    alone = bind(parse_extension("by-parts"), scheme, 4 * context)
    theta = scheme.frequencies()
    torch.testing.assert_close(4 * on_top.spectrum(theta), alone.spectrum(theta), rtol=1e-6, atol=0)


def test_published_defaults() -> None:
    """Of Code Llama's and the 2309.16039's base, the 4 sinks of 2309.17453, and the ramps of YaRN and of Llama 3.1."""
    told = {name: cls.Config().__dict__ for name, cls in extensions().items()}
    assert told["abf"]["base"] == 500_000.0
    assert told["sinks"]["n"] == 4
    assert (told["yarn"]["fast"], told["yarn"]["slow"], told["yarn"]["ramp"]) == (32.0, 1.0, "code")
    assert (told["llama3"]["low"], told["llama3"]["high"]) == (1.0, 4.0)
