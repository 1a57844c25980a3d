"""Tests of ``posx.sweeps.run``: recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.corpora import child_environment
from fixtures.finetuned_runs import sweep_file
from fixtures.models import posx
from fixtures.recipe_runs import (
    runs,  # noqa: F401
    text,  # noqa: F401
)
from posx.results.aggregate import aggregate
from posx.results.records import read_records


def test_a_sweep_with_recipes_runs(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a row and a curve of its own; the point at 0 steps is the extension untrained, which drop has not."""
    from posx.results.finetune_curves import finetunes

    tune = {"context": "4x", "steps": [2], "extensions": {"rope": ["none"]}, "recipes": {"rope": ["pose", "drop"]}}
    path = sweep_file(tmp_path / "s.yaml", text, controls=[], extensions={}, finetune=tune)
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
    posx("sweep", path, "--workers", 2, "--runs-dir", tmp_path / "runs")
    records = read_records(tmp_path / "runs", [])
    assert all(r.status == "ok" for r in records)
    assert {r.label for r in records} == {
        "rope",
        "rope + 2 steps at 8",
        "rope + 2 steps at 8, pose to 32",
        "rope, dropped + 2 steps at 8",
    }
    curves = {(c.recipe, c.length): [p.x for p in c.points] for c in finetunes(aggregate(records))}
    assert curves == {
        (recipe, length): points
        for length in (8, 32)
        for recipe, points in (("", [0, 2]), ("pose to 32", [0, 2]), ("positions dropped", [2]))
    }
    listed = posx("sweep", path, "--dry-run", "--runs-dir", tmp_path / "runs").stdout
    assert (listed.count("done"), listed.count("to do")) == (4, 0)
