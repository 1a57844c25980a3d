"""Tests of ``posx.analysis.extrapolation``: page."""

from __future__ import annotations

import json

from fixtures.case_pages import SHORT
from fixtures.cases import EXERCISE, explained, fact
from fixtures.models import posx


def test_the_page_of_one_scheme() -> None:
    shown = posx("explain", "--scheme", "rope", *EXERCISE, "--extension", "pi", "scheme.base=500").stdout
    assert "rope: trained on up to 2048 tokens, evaluated at 3000" in shown
    assert "What to expect without an extension: It breaks" in shown
    lines = [line.strip() for line in shown.splitlines() if line.strip().startswith("posx ")]
    assert lines == [
        "posx train --scheme rope train.context=2048 scheme.base=500",
        "posx eval --length 3000 --extension none --extension pi eval.target_context=3000",
        "posx recommend --length 3000 eval.target_context=3000",
    ]


def test_within_the_training_context_nothing_is_new() -> None:
    shown = posx("explain", "--scheme", "rope", "--train-length", "2048", "--length", "1000").stdout
    assert "Nothing is new: training covers everything that 1000 tokens use." in shown
    fixed = explained("rope", "--extension", "pi(s=4)", case=("--train-length", "2048", "--length", "1000"))
    assert fact(fixed, "angle between adjacent tokens, k = 0", "extended")[1] == "0.250 rad"


def test_two_schemes_are_two_pages() -> None:
    both = posx("explain", "--scheme", "nope", "--scheme", "alibi", *SHORT)
    assert both.stdout.index("nope: trained") < both.stdout.index("alibi: trained")
    both = posx("explain", "--scheme", "nope", "--scheme", "alibi", *SHORT, "--json")
    assert [one["name"] for one in json.loads(both.stdout)] == ["nope", "alibi"]
