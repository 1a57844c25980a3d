"""Tests of ``posx.cli.recommend``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from fixtures.models import posx
from fixtures.reproduced_runs import (
    asked,
    own,  # noqa: F401
    refused,
    runs,  # noqa: F401
    text,  # noqa: F401 - a fixture
    tree,
)

torch.set_num_threads(1)


def test_a_validation_split_that_is_too_short_says_what_it_holds(own: Path) -> None:
    """And the way out that it names is one."""
    said = refused("recommend", "alibi", "--length", 4000, "--runs-dir", own)
    assert "The validation split has fewer than 64 targets with 4000 tokens" in said
    held = int(re.search(r"lengths up to (\d+) and eval.target_context=\1\.", said)[1])  # type: ignore[index]
    posx("recommend", "alibi", "--length", held, f"eval.target_context={held}", "--runs-dir", own)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["rope"], "Missing --length.", id="no length"),
        pytest.param(["rope", "--length", "16"], "require no extension", id="the training context"),
        pytest.param(["rope", "--length", "1x"], "require no extension", id="1x"),
        pytest.param(["rope", "--length", "8"], "require no extension", id="shorter"),
        pytest.param(["rope", "--length", "long"], "'long' is not a valid length", id="no number"),
        pytest.param(["rope", "--length", "0"], "0 tokens", id="zero"),
        pytest.param(["rope", "--length=-40"], "'-40' is not a valid length", id="negative"),
        pytest.param(["rope", "alibi", "--length", "40"], "Expected one run", id="two runs"),
        pytest.param(["rpoe", "--length", "40"], "Did you mean rope", id="unknown run"),
        pytest.param(["rope", "--length", "40", "eval.stirde=1"], "stride", id="unknown setting"),
        pytest.param(["rope", "--length", "40", "eval.split=train"], "is not a valid choice", id="unknown split"),
        pytest.param(["rope", "--length", "40", "eval.lengths=[80]"], "eval.lengths", id="two lengths"),
        pytest.param(["rope", "--length", "40", "eval.extensions=[pi]"], "eval.extensions", id="an extension"),
        pytest.param(["--length", "40", "--runs-dir", "{empty}"], "no finished run", id="no runs"),
    ],
)
def test_bad_input_is_a_sentence(runs: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    given = [a.format(empty=tmp_path) for a in arguments]
    where = [] if "--runs-dir" in given else ["--runs-dir", runs]
    before = tree(runs)
    assert said in refused("recommend", *given, *where)
    assert tree(runs) == before


def test_without_a_run_it_takes_the_newest(own: Path) -> None:
    result = asked(own, "--length", 80)
    assert "Using the newest finished run, tuned." in result.stderr
    assert "posx eval tuned" in result.stdout
