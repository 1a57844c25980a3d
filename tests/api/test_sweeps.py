"""Tests of ``posx.api.sweeps``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import posx
from fixtures.api_runs import (
    text,  # noqa: F401 - a fixture
)
from fixtures.corpora import child_environment
from fixtures.sweep_files import sweep_file

torch.set_num_threads(1)


def test_a_sweep_is_a_table(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
    path = sweep_file(tmp_path / "small.yaml", text, schemes=["rope"], seeds=[0])
    events: list[posx.Progress] = []
    table = posx.sweep(path, runs_dir=tmp_path / "runs", workers=1, progress=events.append)
    assert capfd.readouterr() == ("", "")
    assert {(r.extension, r.length) for r in table.records} == {(e, n) for e in ("none", "pi") for n in (8, 16)}
    assert table.failed == []
    assert "| rope | pi |" in table.to_markdown()
    assert "Sweep small: 1 jobs, 1 to do" in events[0].message
    again = posx.sweep(path, runs_dir=tmp_path / "runs", workers=1, progress=events.append)
    assert again.records == table.records
    assert "0 to do" in events[-1].message
