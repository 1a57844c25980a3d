"""Tests of ``posx.config.lengths``."""

from __future__ import annotations

import pytest

from posx.config.lengths import parse_length
from posx.errors import PosxError


@pytest.mark.parametrize(
    "text, context, tokens",
    [
        ("3000", 64, 3000),
        ("1", 64, 1),
        ("007", 64, 7),
        (" 12 ", 64, 12),
        ("1x", 64, 64),
        ("1.0x", 64, 64),
        ("2x", 64, 128),
        ("1.5x", 64, 96),
        ("1.25x", 64, 80),
        ("1.1x", 10, 11),
        ("1.1x", 640, 704),
        ("16x", 7, 112),
        ("1.3x", 100, 130),
        ("2.3x", 1000, 2300),
    ],
)
def test_a_length_is_tokens_or_a_multiple(text: str, context: int, tokens: int) -> None:
    assert parse_length(text, context) == tokens


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "not a valid length"),
        ("x", "not a valid length"),
        ("-3", "not a valid length"),
        ("-2x", "not a valid length"),
        ("1e3", "not a valid length"),
        ("3.5", "not a valid length"),
        (".5x", "not a valid length"),
        ("2x2", "not a valid length"),
        ("x2", "not a valid length"),
        ("two", "not a valid length"),
        ("nan", "not a valid length"),
        ("1_000", "not a valid length"),
        ("0", "0 tokens"),
        ("0x", "at least 1"),
        ("0.5x", "give tokens: 32"),
        ("0.99x", "at least 1"),
        ("1.1x", "70 or 71"),
        ("1.001x", "64 or 65"),
    ],
)
def test_an_invalid_length_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(PosxError) as caught:
        parse_length(text, 64)
    assert sentence in str(caught.value)
    assert caught.value.hint
