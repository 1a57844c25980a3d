"""Tests of the settings of all extensions."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.models import extensions
from posx.errors import PosxError
from posx.models.binding import parse_extension


@pytest.mark.parametrize(
    "name, bad, good",
    [
        ("pi", {"s": 0.5}, {"s": 1}),
        ("ntk", {"s": 0.0}, {"s": 1}),
        ("window", {"w": 0}, {"w": 1}),
        ("dynamic-ntk", {"f": 0.5}, {"f": 1}),
        ("dynamic-ntk", {"s": 0.5}, {"s": 1}),
        ("abf", {"base": 1.0}, {"base": 1.1}),
        ("by-parts", {"slow": 32.0}, {"slow": 31.9}),
        ("by-parts", {"ramp": "linear"}, {"ramp": "paper"}),
        ("yarn", {"s": 0.9}, {"s": 1}),
        ("llama3", {"low": 4.0}, {"low": 3.9}),
    ],
)
def test_invalid_settings_are_refused(name: str, bad: dict[str, Any], good: dict[str, Any]) -> None:
    cls = extensions()[name]
    with pytest.raises(PosxError) as raised:
        cls.check(cls.Config(**bad))
    assert raised.value.hint
    for fine in ({}, good):
        cls.check(cls.Config(**fine))


BAD: tuple[tuple[str, str], ...] = (
    ("self-extend(w=5, G=2)", "must divide"),
    ("self-extend(w=0)", "at least 1"),
    ("rerope(w=0)", "at least 1"),
    ("leaky-rerope(k=0.5)", "must be at least 1"),
    ("dual-chunk(s=0)", "at least 1"),
    ("dual-chunk(s=9, last=3)", "must be at least s − 1 = 8"),
    ("sinks(n=0)", "at least 1"),
    ("lm-infinite(limit=0)", "at least 1"),
    ("temperature(factor=0)", "above 0"),
    ("temperature(c=-1)", "at least 0"),
    ("alibi-scale(s=0.5)", "must be at least 1"),
    ("sinks(k=3)", "k"),
    ("rerope(w=many)", "w"),
    ("window(w=99999999999999999999)", "too large"),
    ("self-extend(w=99999999999999)", "too large"),
    ("longrope(factors=no,such.yaml)", "no,such.yaml"),
    ("resonance(when=during)", "after or before"),
)


@pytest.mark.parametrize("text, expected_message", BAD)
def test_invalid_parameters_are_refused(text: str, expected_message: str) -> None:
    with pytest.raises(PosxError, match=expected_message):
        parse_extension(text)


def test_published_defaults() -> None:
    """Of Code Llama's and the 2309.16039's base, the 4 sinks of 2309.17453, and the ramps of YaRN and of Llama 3.1."""
    told = {name: cls.Config().__dict__ for name, cls in extensions().items()}
    assert told["abf"]["base"] == 500_000.0
    assert told["sinks"]["n"] == 4
    assert (told["yarn"]["fast"], told["yarn"]["slow"], told["yarn"]["ramp"]) == (32.0, 1.0, "code")
    assert (told["llama3"]["low"], told["llama3"]["high"]) == (1.0, 4.0)
