"""Tests of ``posx.cli.sweep``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fixtures.corpora import child_environment
from fixtures.models import posx
from fixtures.sweep_files import (
    planned,
    sweep_file,
    text,  # noqa: F401
)

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def children_import_this_posx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are processes of their own."""
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])


def test_dry_run_lists_and_does_nothing(tmp_path: Path, text: Path) -> None:
    path = sweep_file(tmp_path / "s.yaml", text)
    result = posx("sweep", path, "--dry-run", "--runs-dir", tmp_path / "runs")
    for job in planned(path):
        assert job.name in result.stdout
    assert result.stdout.count("to do") == 4
    assert not (tmp_path / "runs").exists()


def test_dry_run_says_what_comes_next(tmp_path: Path, text: Path) -> None:
    path = sweep_file(tmp_path / "s.yaml", text, schemes=["rope"], seeds=[0])
    result = posx("sweep", path, "--dry-run", "--runs-dir", tmp_path / "runs")
    assert "Next: " in result.stdout + result.stderr
