"""Tests of ``posx.cli.train``: resume."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.commands import (
    refused,
    runs,  # noqa: F401
    text,  # noqa: F401 - a fixture
    there,  # noqa: F401
    tiny,  # noqa: F401
    tree,
)
from fixtures.corpora import child_environment
from fixtures.models import posx

torch.set_num_threads(1)


def test_resuming_a_finished_run_does_nothing(there: Path, tiny: list[str]) -> None:
    posx("train", *tiny, "--name", "a")
    before = tree(there)
    result = posx("train", *tiny, "--name", "a", "--resume")
    assert "is finished: step 3 of 3" in result.stderr
    assert tree(there) == before


def test_resuming_nothing_starts_afresh(there: Path, tiny: list[str]) -> None:
    posx("train", *tiny, "--name", "a", "--resume")
    assert (there / "runs" / "a" / "checkpoints" / "step-000003").is_dir()


def test_resuming_with_other_settings_is_refused(there: Path, tiny: list[str]) -> None:
    posx("train", *tiny, "--name", "a")
    before = tree(there)
    message = refused("train", *tiny, "--name", "a", "--resume", "optim.lr=0.5", "train.steps=4")
    assert "optim.lr was 0.003, now 0.5" in message
    assert "train.steps was 3, now 4" in message
    assert tree(there) == before
    posx("train", *tiny, "--name", "a", "--resume", "train.log_every=1")  # changes no result


def waiting_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


@pytest.fixture
def training(there: Path, tiny: list[str]) -> Iterator[Any]:
    """Start a training in a process of its own; it is at work when this returns."""
    started: list[subprocess.Popen[str]] = []

    def start(*overrides: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "posx", "train", *tiny, "--name", "a", "train.log_every=1", *overrides],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=child_environment(),
        )
        started.append(process)
        log = there / "runs" / "a" / "metrics.jsonl"
        waiting_for(lambda: process.poll() is not None or (log.is_file() and log.stat().st_size > 0))
        assert process.poll() is None, process.communicate()[1]
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_ctrl_c_saves_and_resume_finishes(there: Path, tiny: list[str], training: Any) -> None:
    process = training("train.steps=300")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert "--resume --name a" in err
    (checkpoint,) = (there / "runs" / "a" / "checkpoints").iterdir()
    step = int(checkpoint.name.removeprefix("step-"))
    assert 0 < step < 300
    assert "no finished run" in refused("eval")
    result = posx("train", *tiny, "--name", "a", "train.steps=300", "--resume", "train.log_every=100")
    assert f"after step {step}" in result.stderr
    assert [p.name for p in (there / "runs" / "a" / "checkpoints").iterdir()] == ["step-000300"]


def test_sigterm_saves_and_meanwhile_a_second_process_is_refused(there: Path, tiny: list[str], training: Any) -> None:
    process = training("train.steps=1000000")
    message = refused("train", *tiny, "--name", "a", "train.steps=1000000", "--resume")
    assert "Another process is working on" in message
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert "Traceback" not in err
    assert len(list((there / "runs" / "a" / "checkpoints").glob("step-*/manifest.json"))) == 1


def test_a_lock_is_free_again_after_a_kill(there: Path, tiny: list[str]) -> None:
    """The lock is the kernel's, not a file's existence: a stale .lock stops nobody."""
    posx("train", *tiny, "--name", "a")
    with (there / "runs" / "a" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    assert (there / "runs" / "a" / ".lock").exists()
    posx("train", *tiny, "--name", "a", "--resume")
