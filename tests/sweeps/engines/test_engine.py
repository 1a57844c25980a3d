"""Tests of ``posx.sweeps.engines.local``: what processes are started with, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from posx.errors import PosxError
from posx.runtime.threads import cores
from posx.sweeps.engines import local, make_engine
from posx.sweeps.engines.base import Job
from posx.sweeps.engines.local import Local

SAYS = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if 'THREADS' in k or 'TOKEN' in k}))"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def started(job: Job, code: str, monkeypatch: pytest.MonkeyPatch, workers: int = 1) -> Local:
    """An engine that runs ``code`` instead of posx.sweeps.job."""
    real = subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        assert command[1:] == ["-m", "posx.sweeps.job", str(job.spec)]
        assert options["start_new_session"]
        return real([sys.executable, "-c", code], **options)

    monkeypatch.setattr(local.subprocess, "Popen", popen)
    engine = Local(workers)
    engine.submit(job)
    return engine


def ended(engine: Local, job: Job) -> tuple[str, int | None]:
    until = time.monotonic() + 30
    while engine.poll()[job.name].state == "running":
        assert time.monotonic() < until
        time.sleep(0.02)
    return engine.poll()[job.name]


def test_a_job_gets_its_share_of_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("a", tmp_path / "a.json")
    assert ended(started(job, SAYS, monkeypatch, 2), job) == ("done", 0)
    share = str(max(1, cores() // 2))
    given = json.loads(job.log.read_text("utf-8"))
    assert [given[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "RAYON")] == [share] * 3
    assert given["TOKENIZERS_PARALLELISM"] == "true"


def test_a_failed_job_has_its_code_and_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("a", tmp_path / "a.json")
    assert ended(started(job, "import sys; print('why', file=sys.stderr); sys.exit(2)", monkeypatch), job) == (
        "failed",
        2,
    )
    assert job.last_words == "why"


def test_a_cancelled_job_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SECONDS_TO_SAVE", 0.2)
    job = Job("a", tmp_path / "a.json")
    engine = started(job, STUBBORN, monkeypatch)
    while not job.log.read_text("utf-8"):
        time.sleep(0.02)
    engine.cancel(job)
    assert engine.poll()["a"].state == "running"
    assert ended(engine, job) == ("failed", -9)


def test_an_engine_is_found_by_its_name() -> None:
    assert make_engine("local", 3).workers == 3
    with pytest.raises(PosxError, match="Did you mean local"):
        make_engine("locl", 1)
