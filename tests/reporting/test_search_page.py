"""Tests of ``posx.reporting.search_page``."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml

from fixtures.models import posx
from fixtures.searches import (
    ASKED,
    EVALUATIONS,
    TARGETS,
    own,  # noqa: F401
    runs,  # noqa: F401 - a fixture
    searched,  # noqa: F401 - a fixture
)


def test_the_page_and_the_next_step(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = posx("search", "longrope", "rope", *ASKED, "--runs-dir", own)
    found = yaml.safe_load((own / "rope" / "longrope-64.yaml").read_text())
    for name in found["nats_per_token"]:
        line = next(line for line in result.stdout.splitlines() if f"│ {name} " in line)
        assert f"{found['nats_per_token'][name]:.3f}" in line
        assert f"{found['held_out_nats_per_token'][name]:.3f}" in line
    assert (
        f"is the best of {EVALUATIONS} candidates on the search targets, which are biased in its favour"
        in result.stdout
    )
    assert "report the number of the test split" in result.stdout
    assert f"{EVALUATIONS}/{EVALUATIONS}  best {found['nats_per_token']['longrope']:.3f}" in result.stderr
    line = shlex.split(result.stderr.partition("Next: ")[2])
    (row,) = [r for r in json.loads(posx(*line[1:], "--json", *TARGETS).stdout) if r["length"] == 64]
    assert row["split"] == "test"
    assert row["extension_params"]["longrope"]["factors"] == found["factors"]
