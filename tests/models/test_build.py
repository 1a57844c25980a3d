"""Tests of ``posx.models.build``."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.composed import whole
from fixtures.laws import small_model
from fixtures.models import extensions, make_model, make_scheme, named
from posx.config.schema import ModelConfig
from posx.errors import PosxError
from posx.models.binding import check_fit, parse_extension, spec_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("none", "none"),
        ("pi", "pi"),
        ("pi()", "pi"),
        (" pi ", "pi"),
        ("pi(s=4)", "pi(s=4)"),
        ("pi(s=4.0)", "pi(s=4)"),
        ("pi( s = 4 )", "pi(s=4)"),
        ("pi(s=2.5)", "pi(s=2.5)"),
        ("ntk+window", "ntk+window"),
        ("window+ntk", "ntk+window"),
        ("window(w=64)+ntk(s=2)", "ntk(s=2)+window(w=64)"),
        ("ntk(s=2) + window(w=64)", "ntk(s=2)+window(w=64)"),
        ("interpolate", "interpolate"),
    ],
)
def test_an_extension_has_one_name_however_it_is_typed(text: str, name: str) -> None:
    specs = parse_extension(text)
    assert spec_name(specs) == name
    assert spec_name(parse_extension(name)) == name
    assert parse_extension(name) == sorted(specs, key=str)


def test_parameters_arrive_with_their_types() -> None:
    (pi,) = parse_extension("pi(s=4)")
    assert (pi.params, type(pi.params["s"])) == ({"s": 4.0}, float)
    (window,) = parse_extension("window(w=64)")
    assert (window.config.w, type(window.config.w)) == (64, int)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not an extension"),
        ("+", "is not an extension"),
        ("pi+", "is not an extension"),
        ("+pi", "is not an extension"),
        ("pi++ntk", "is not an extension"),
        ("pi(s=4", "is not an extension"),
        ("pi)", "is not an extension"),
        ("pi s=4", "is not an extension"),
        ("pi,ntk", "is not an extension"),
        ("pii", "Did you mean pi"),
        (
            "4",
            "Available: abf, alibi-scale, by-parts, dual-chunk, dynamic-ntk, interpolate, leaky-rerope, llama3, ",
        ),
        ("pi(4)", "is not a parameter"),
        ("pi(t=4)", "pi.s"),
        ("pi(=4)", "pi.s"),
        ("pi(s=)", "pi.s takes a number"),
        ("pi(s=four)", "pi.s takes a number"),
        ("pi(s=0.5)", "at least 1"),
        ("pi(s=-2)", "at least 1"),
        ("pi(s=nan)", "s=nan"),
        ("ntk(s=inf)", "s=inf"),
        ("window(w=0)", "w"),
        ("window(w=2.5)", "window.w takes a whole number"),
        ("interpolate(s=4)", "interpolate.s"),
        ("pi+pi", "twice"),
        ("pi(s=2)+pi(s=4)", "twice"),
        ("pi(s=2,s=4)", "s"),
        ("none+pi", "none cannot be combined"),
        ("none(s=1)", "none cannot be combined"),
    ],
)
def test_invalid_extensions_are_refused(text: str, says: str) -> None:
    with pytest.raises(PosxError) as caught:
        parse_extension(text)
    assert says in str(whole(caught.value))


def test_a_list_of_choices_is_never_empty() -> None:
    with pytest.raises(PosxError) as caught:
        parse_extension("interpolate(s=4)")
    assert "Available: ." not in str(caught.value)


@pytest.mark.parametrize(
    "asked, name, message",
    [
        (
            {"ntk": {}},
            "alibi",
            r"ntk changes the spectrum and does not fit alibi.*none, alibi-scale, .*temperature and window",
        ),
        ({"pi": {}}, "learned", r"pi changes the spectrum.*none, interpolate, lm-infinite, .*and window"),
        (
            {"interpolate": {}},
            "rope",
            r"interpolate changes the positions.*none, abf, .*ntk, pi, .*window and yarn",
        ),
        ({"pi": {}, "ntk": {}}, "rope", r"pi and ntk both change the spectrum"),
        ({"pi": {}, "window": {}}, "nope", r"pi changes the spectrum"),
        ({"resonance": {}}, "alibi", r"resonance changes the wavelengths and does not fit alibi"),
        ({"longrope": {"factors": "1:2:3"}}, "rope", r"given 3 factors, but rope rotates 8 pairs"),
    ],
)
def test_extensions_that_do_not_fit_are_refused(asked: dict[str, Any], name: str, message: str) -> None:
    known = extensions()
    specs = [named(e, **params) for e, params in asked.items()]
    with pytest.raises(PosxError, match=message):
        check_fit(specs, name, small_model(name, "gpt").scheme, known)


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


@pytest.mark.parametrize("name, text, expected_message", REFUSED)
def test_invalid_combinations_are_refused(name: str, text: str, expected_message: str) -> None:
    from posx.models.binding import check_fit

    with pytest.raises(PosxError, match=expected_message):
        check_fit(parse_extension(text), name, make_model(name).scheme, extensions())


def test_a_mask_does_not_fit_linear_attention() -> None:
    spec = named("window", w=5)
    with pytest.raises(PosxError, match="window changes the mask and does not fit linear-rope") as error:
        check_fit([spec], "linear-rope", make_scheme("linear-rope", ModelConfig()), extensions())
    assert "none, abf, by-parts, dynamic-ntk, llama3, ntk, pi and resonance" in error.value.hint
