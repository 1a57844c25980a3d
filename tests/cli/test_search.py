"""Tests of ``posx.cli.search``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from fixtures.models import posx
from fixtures.searches import (
    ASKED,
    own,  # noqa: F401
    runs,  # noqa: F401
    searched,  # noqa: F401 - a fixture
)


def refused(*arguments: object) -> str:
    result = posx(*arguments, code=2)
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.partition("Error: ")[2].split())


def test_a_search_leaves_a_file_and_nothing_else(own: Path, tmp_path: Path) -> None:
    """No records: 64 candidates are no rows of a table."""
    before = {p: p.stat().st_mtime_ns for p in own.rglob("*")}
    posx("search", "longrope", "rope", *ASKED, "-o", tmp_path / "new" / "here.yaml", "--runs-dir", own)
    assert {p: p.stat().st_mtime_ns for p in own.rglob("*")} == before
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["here.yaml"]


def test_json_is_the_file(own: Path) -> None:
    told = json.loads(posx("search", "longrope", "rope", *ASKED, "--json", "--runs-dir", own).stdout)
    path = Path(told.pop("file"))
    assert told == yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    "arguments, said",
    [
        pytest.param([], "Missing what to search for.", id="nothing"),
        pytest.param(["longrpoe", "rope", "--length", "4x"], "Did you mean longrope", id="unknown"),
        pytest.param(["longrope", "rope"], "Missing --length.", id="no length"),
        pytest.param(["longrope", "rope", "--length", "16"], "require no extension", id="L"),
        pytest.param(["longrope", "rope", "--length", "1x"], "require no extension", id="1x"),
        pytest.param(["longrope", "rope", "--length", "8"], "require no extension", id="shorter"),
        pytest.param(["longrope", "rope", "--length", "far"], "'far' is not a valid length", id="no number"),
        pytest.param(["longrope", "rpoe", "--length", "4x"], "Did you mean rope", id="unknown run"),
        pytest.param(["longrope", "rope", "alibi", "--length", "4x"], "Expected one run", id="two runs"),
        pytest.param(["longrope", "alibi", "--length", "4x"], "alibi rotates no queries", id="no rotation"),
        pytest.param(
            ["longrope", "rope", "--length", "4x", "eval.split=test"], "uses the validation split", id="test split"
        ),
        pytest.param(["longrope", "rope", "--length", "4x", "eval.lengths=[80]"], "Use --length", id="lengths"),
        pytest.param(["longrope", "rope", "--length", "4x", "eval.extensions=[pi]"], "its own", id="extensions"),
        pytest.param(["longrope", "rope", "--length", "4x", "--protocol"], "", id="unknown flag"),
        pytest.param(["longrope", "rope", "--length", "4x", "eval.protocol=stream"], "fixed-targets", id="protocol"),
        pytest.param(["longrope", "rope", "--length", "4x", "--evaluations", "8"], "Give at least 9", id="few"),
        pytest.param(["longrope", "rope", "--length", "4x", "eval.stirde=1"], "stride", id="unknown setting"),
        pytest.param(["longrope", "rope", "--length", "4x", "-o", "."], "is a directory", id="a folder"),
        pytest.param(["longrope", "rope", "--length", "4000"], "fewer than 64 targets", id="too long"),
    ],
)
def test_bad_input_is_a_sentence(runs: Path, arguments: list[str], said: str) -> None:
    before = {p: p.stat().st_mtime_ns for p in runs.rglob("*")}
    assert said in refused("search", *arguments, "--runs-dir", runs)
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("*")} == before


def test_an_unfinished_run_is_refused(own: Path) -> None:
    config = own / "rope" / "config.yaml"
    config.write_text(config.read_text().replace("steps: 40", "steps: 50"))
    assert "rope is not finished: step 40 of 50" in refused("search", "longrope", "rope", *ASKED, "--runs-dir", own)
    shutil.rmtree(own / "rope" / "checkpoints")
    assert "has no checkpoint yet" in refused("search", "longrope", "rope", *ASKED, "--runs-dir", own)
