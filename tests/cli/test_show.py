"""Tests of ``posx.cli.show``."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.models import posx
from fixtures.shown_schemes import (
    SMALL,
    there,  # noqa: F401
)


def test_what_is_printed(there: Path) -> None:
    result = posx("show", "rope", "scheme.base=500", *SMALL, "-o", "figure.svg")
    assert "figure.svg" in result.stdout.splitlines()
    assert [path.name for path in there.iterdir()] == ["figure.svg"]
    row = next(line for line in result.stdout.splitlines() if "preserves norms of q and k" in line)
    assert "yes" in row
    assert "Next: posx train --scheme rope scheme.base=500" in result.stderr
    posx("show", "nope", *SMALL, "-o", "figure.pdf")
    assert (there / "figure.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing SCHEME"),
        (["scheme.base=500"], "Missing SCHEME"),
        (["rop"], "Did you mean"),
        (["rope", "alibi"], "is not an override"),
        (["rope", "scheme=alibi"], "contradict each other"),
        (["rope", "-o", "x.jpg"], ".jpg is not a supported format"),
        (["rope", "-o", "missing/x.png"], "The directory missing does not exist"),
        (["rope", "-o", "."], "is a directory"),
        (["rope", "--length", "0.5x"], "at least 1"),
        (["rope", "--length", "far"], "is not a valid length"),
        (["rope", "--length", "1"], "2 to 8,192 positions"),
        (["rope", "--length", "1000x"], "2 to 8,192 positions"),
        (["rope", "model.n_heads=3"], "n_heads"),
        (["rope", "scheme.slope=3"], "slope"),
        (["alibi", "eval.stride=3"], "is a setting of an evaluation"),
        (["rope", "train.extension=pi"], "does not support train.extension=pi"),
        (["rope", "--config-dir", "nowhere"], "is not a directory"),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], said: str, there: Path) -> None:
    result = posx("show", *arguments, code=2)
    assert result.stdout == ""
    assert said in result.stderr
    assert list(there.iterdir()) == []
