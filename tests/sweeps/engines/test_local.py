"""Tests of ``posx.sweeps.engines.local``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fixtures.corpora import child_environment
from fixtures.models import posx
from fixtures.sweep_files import (
    sweep_file,
    text,  # noqa: F401
)

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def children_import_this_posx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are processes of their own."""
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])


def children(process: int) -> set[int]:
    """Processes that this one has started and that still run."""
    listed = Path(f"/proc/{process}/task/{process}/children")
    return {int(word) for word in listed.read_text().split()} if listed.exists() else set()


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def started(path: Path, runs: Path) -> subprocess.Popen[str]:
    """A sweep in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "posx", "sweep", str(path), "--workers", "2", "--runs-dir", str(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **child_environment()},
    )


def stopped(process: subprocess.Popen[str], ready: Callable[[], bool], number: signal.Signals) -> set[int]:
    """Send a signal to a sweep, and to it alone, as soon as it is ``ready``; the jobs that it had then, all gone."""
    jobs: set[int] = set()
    try:
        end = time.monotonic() + 60
        while not ready():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end, "no job began"
            time.sleep(0.01)
        jobs = children(process.pid)
        process.send_signal(number)
        err = process.communicate(timeout=60)[1]
        assert process.returncode == 128 + number
        assert "Traceback" not in err
        assert [job for job in jobs if alive(job)] == []
    finally:
        for left in [process.pid, *jobs]:
            if alive(left):
                os.kill(left, signal.SIGKILL)
        process.communicate()
    return jobs


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_ctrl_c_saves_every_job_and_a_rerun_completes(text: Path, tmp_path: Path) -> None:
    path = sweep_file(tmp_path / "s.yaml", text, schemes=["nope"], seeds=[0], more=["train.steps=300"])
    runs = tmp_path / "runs"
    process = started(path, runs)
    jobs = stopped(process, lambda: any(p.stat().st_size for p in runs.glob("*/metrics.jsonl")), signal.SIGINT)
    assert len(jobs) == 1
    (checkpoint,) = runs.glob("*/checkpoints/step-*")
    step = int(checkpoint.name[5:])
    assert 0 < step < 300
    (log,) = (runs / ".jobs").glob("*.log")
    assert "Traceback" not in log.read_text("utf-8")
    posx("sweep", path, "--runs-dir", runs)
    assert [p.name for p in runs.glob("*/checkpoints/*")] == ["step-000300"]
    assert f"Resuming {log.stem} after step {step}" in log.read_text("utf-8")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_sigterm_ends_all_jobs(text: Path, tmp_path: Path) -> None:
    """Also those that have only begun to start."""
    path = sweep_file(tmp_path / "s.yaml", text, schemes=["nope"], more=["train.steps=1000000"])
    process = started(path, tmp_path / "runs")
    assert len(stopped(process, lambda: len(children(process.pid)) == 2, signal.SIGTERM)) == 2
