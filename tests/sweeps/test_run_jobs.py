"""Tests of ``posx.sweeps.run``: jobs on an engine that only says what it was given."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from posx.sweeps import run
from posx.sweeps.engines.base import Job, State
from posx.sweeps.run import Stopped, run_jobs


class Recorded:
    """Each job runs for two polls; those in ``fails`` fail."""

    name = "recorded"

    def __init__(self, workers: int | None, fails: tuple[str, ...] = ()):
        self.workers, self.fails = workers, fails
        self.submitted: list[str] = []
        self.cancelled: list[str] = []
        self.polls: dict[str, int] = {}
        self.most = 0

    def submit(self, job: Job) -> None:
        self.submitted.append(job.name)
        self.polls[job.name] = 0

    def poll(self) -> dict[str, State]:
        states = {}
        for name in self.polls:
            self.polls[name] += 1
            ended = self.polls[name] > 2 or name in self.cancelled
            code = 1 if name in self.fails else 0
            states[name] = State("running") if not ended else State("failed" if code else "done", code)
        self.most = max(self.most, sum(state.state == "running" for state in states.values()))
        return states

    def cancel(self, job: Job) -> None:
        self.cancelled.append(job.name)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "POLL_SECONDS", 0.001)


def jobs_in(folder: Path, *names: str) -> list[Job]:
    """``b<a`` starts from the weights of ``a``."""
    parts = [name.partition("<") for name in names]
    return [Job(name, folder / f"{name}.json", after or None) for name, _, after in parts]


def test_jobs_start_in_order_as_many_as_the_engine_takes(tmp_path: Path) -> None:
    jobs, engine = jobs_in(tmp_path, "a", "b<a", "c", "d", "e"), Recorded(2)
    run_jobs(jobs, engine, lambda: None)
    assert engine.submitted == ["a", "c", "b", "d", "e"]  # b waits for a, and then comes before d
    assert engine.most == 2
    assert [(job.state, job.code) for job in jobs] == [("done", 0)] * 5


def test_an_engine_that_queues_jobs_itself_gets_all_that_are_ready(tmp_path: Path) -> None:
    jobs, engine = jobs_in(tmp_path, "a", "b<a", "c", "d"), Recorded(None)
    seen: list[list[str]] = []
    run_jobs(jobs, engine, lambda: seen.append(list(engine.submitted)))
    assert seen[0] == ["a", "c", "d"]
    assert engine.submitted == ["a", "c", "d", "b"]


def test_a_failure_costs_only_what_starts_from_it(tmp_path: Path) -> None:
    jobs, engine = jobs_in(tmp_path, "a", "b<a", "c", "d<c"), Recorded(1, fails=("a",))
    run_jobs(jobs, engine, lambda: None)
    assert {job.name: job.state for job in jobs} == {"a": "failed", "b": "failed", "c": "done", "d": "done"}
    assert engine.submitted == ["a", "c", "d"]
    assert jobs[1].last_words == "not started: a, whose weights it requires, failed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_what_runs_and_leaves_the_handlers(tmp_path: Path, number: signal.Signals) -> None:
    jobs, engine = jobs_in(tmp_path, "a", "b", "c"), Recorded(2)
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as error:
        run_jobs(jobs, engine, lambda: os.kill(os.getpid(), number))
    assert error.value.code == 128 + number
    assert engine.submitted == engine.cancelled == ["a", "b"]
    assert [job.state for job in jobs] == ["stopped", "stopped", "waiting"]
    assert signal.getsignal(number) == before


def test_an_error_on_the_way_cancels_too(tmp_path: Path) -> None:
    jobs, engine = jobs_in(tmp_path, "a"), Recorded(1)

    def fails() -> None:
        raise RuntimeError("no terminal")

    with pytest.raises(RuntimeError, match="no terminal"):
        run_jobs(jobs, engine, fails)
    assert engine.cancelled == ["a"]


def test_jobs_that_are_done_are_left_alone(tmp_path: Path) -> None:
    jobs, engine = jobs_in(tmp_path, "a", "b<a"), Recorded(2)
    jobs[0].state = "done"
    run_jobs(jobs, engine, lambda: None)
    assert engine.submitted == ["b"]
