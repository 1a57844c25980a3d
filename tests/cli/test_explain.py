"""Tests of ``posx.cli.explain``."""

from __future__ import annotations

import pytest

from fixtures.cases import EXERCISE
from fixtures.models import posx


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scheme", "rop", *EXERCISE], "Did you mean"),
        (["--scheme", "rope", *EXERCISE, "--extension", "yarm"], "Did you mean yarn"),
        (["--scheme", "alibi", *EXERCISE, "--extension", "pi"], "does not fit alibi"),
        (["--scheme", "rope", *EXERCISE, "--extension", "pi+ntk"], "cannot be combined"),
        (["--scheme", "rope", "--train-length", "2048", "--length", "0"], "A length of 0 tokens"),
        (["--scheme", "rope", "--train-length", "2048", "--length", "-3"], "is not a valid length"),
        (["--scheme", "rope", "--train-length", "2048", "--length", "far"], "is not a valid length"),
        (["--scheme", "rope", "--train-length", "2048", "--length", "0.5x"], "at least 1"),
        (["--scheme", "rope", "--train-length", "2048", "--length", "999999999"], "supports up to 131,072 tokens"),
        (["--scheme", "rope", "--train-length", "1", "--length", "3"], "train.context=1 is too small"),
        (["--scheme", "rope", "--train-length", "2x", "--length", "3"], "is not a number of tokens"),
        (["--scheme", "rope", "--train-length", "-5", "--length", "3"], "is not a number of tokens"),
        (["--scheme", "rope", "--train-length", "2048"], "Missing --length."),
        (["--scheme", "rope", "--length", "3000"], "Missing --train-length."),
        (["--scheme", "rope", *EXERCISE, "scheme.slope=3"], "slope"),
        (["--scheme", "rope", *EXERCISE, "train.context=64"], "contradict each other"),
        (["--scheme", "rope", *EXERCISE, "scheme=alibi"], "contradict each other"),
        (["--scheme", "rope", *EXERCISE, "train.extension=pi"], "posx explain does not support train.extension=pi"),
        (["--scheme", "rope", *EXERCISE, "eval.stride=3"], "is a setting of an evaluation"),
        (["--scheme", "rope", *EXERCISE, "scheme.base=1"], "must be above 1"),
        (["permutation", *EXERCISE], "does not support --train-length"),
        (["permutation", "scheme.base=500"], "does not support scheme.base=500"),
        (EXERCISE, "needs --scheme or a topic"),
    ],
)  # fmt: skip
def test_mistakes_are_sentences(arguments: list[str], said: str) -> None:
    result = posx("explain", *arguments, code=2)
    assert result.stdout == ""
    assert said in result.stderr
