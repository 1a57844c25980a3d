"""Tests of ``posx.cli.explain``: permutation."""

from __future__ import annotations

import pytest

from fixtures.models import posx


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs --scheme or a topic"),
        (["permutatoin"], "Did you mean permutation?"),
        (["permutation", "--scheme", "rop"], "Did you mean rope"),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], said: str) -> None:
    result = posx("explain", *arguments, code=2)
    assert result.stdout == ""
    assert said in result.stderr
