"""Tests of ``posx.reporting.recommend_page``."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.models import posx
from fixtures.reproduced_runs import (
    TARGETS,
    asked,
    own,  # noqa: F401
    runs,  # noqa: F401 - a fixture
    shell,  # noqa: F401
    text,  # noqa: F401 - a fixture
)
from posx.results.records import current_records

torch.set_num_threads(1)


def test_the_page_shows_rank_cost_interval_and_command(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = asked(own, "learned", "--length", 40)
    shown = result.stdout
    rows = json.loads(asked(own, "learned", "--length", 40, "--json").stdout)
    assert "validation split" in shown
    assert "Chosen on the validation split: report the number of the test split." in shown
    places = [shown.index(f" {row['extension']} ") for row in rows]
    assert places == sorted(places)
    assert f"{rows[0]['nats_per_token']:.3f}" in shown
    assert f"{rows[0]['tokens_per_second']:,.0f}" in shown
    assert re.search(r"\[[-+]\d\.\d{3}, [-+]\d\.\d{3}\]", shown)
    assert "best" in shown
    assert "learned positions end at 16" in shown
    assert f"Use: {rows[0]['line']}" in shown
    assert rows[0]["line"] in result.stderr


def test_the_suggested_command_runs(own: Path, shell: Callable[..., Any]) -> None:
    """A runs directory with a space in it; the number is on the test split."""
    line = asked(own, "rope", "--length", 40).stdout.partition("Use: ")[2].strip()
    before = {r.key for r in current_records(own / "rope")}
    shell([line], own.parent)
    made = [r for r in current_records(own / "rope") if r.key not in before]
    assert {r.split for r in made} == {"test"}
    assert 40 in {r.length for r in made}


def test_the_suggested_command_finds_a_run_given_by_path(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a directory without this runs/."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shown = posx("recommend", own / "alibi", "--length", 40, *TARGETS).stdout
    line = shlex.split(shown.partition("Use: ")[2].strip())
    posx(*line[1:], "eval.target_context=90")
