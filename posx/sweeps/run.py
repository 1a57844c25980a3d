"""Run a sweep: find out what is missing, run those jobs, and collect the records."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posx.errors import PosxError
from posx.results.records import Record, as_json, current_records
from posx.runs.identity import NUMERICS
from posx.runtime.device import pick_device
from posx.runtime.threads import cores
from posx.sweeps.bundles import select
from posx.sweeps.dashboard import Dashboard
from posx.sweeps.engines import make_engine
from posx.sweeps.engines.base import Engine, Job
from posx.sweeps.plan import JobPlan, Sweep
from posx.utils.console import Display
from posx.utils.files import read_json, write_json

POLL_SECONDS = 0.25


class Stopped(PosxError):
    """A signal ended a sweep. Its running jobs have written checkpoints."""


def run_sweep(
    sweep: Sweep, runs_dir: Path, workers: int | None, display: Display, bundles: Sequence[Path] = ()
) -> tuple[list[Record], list[Job]]:
    """Run the jobs that are missing in ``runs_dir`` and in ``bundles``.

    Returns the records of all finished jobs, in the sweep's order, and the jobs. Raises PosxError.
    """
    jobs = make_jobs(sweep, runs_dir, bundles, display.say, write=True)
    missing = sum(job.state == "waiting" for job in jobs)
    if workers is None:
        gpu = any(pick_device(plan.config.train.device).type == "cuda" for plan in sweep.jobs)
        workers = 1 if gpu else max(1, min(missing, cores()))
    display.say(
        f"Sweep {sweep.name}: {len(jobs)} jobs, {missing} to do, {workers} at a time on {cores()} cores. "
        f"Logs: {runs_dir / '.jobs'}"
    )
    if missing:
        dashboard = Dashboard({plan.name: plan.config for plan in sweep.jobs}, jobs, runs_dir, display)
        with dashboard:
            run_jobs(jobs, make_engine("local", workers), dashboard.refresh)
    records = []
    for job in jobs:
        if job.bundled is not None:
            records += job.bundled.records
        elif job.state == "done":
            done = read_json(job.spec.with_suffix(".done"), "a finished job")["records"]
            records += [record for record in current_records(runs_dir / job.name) if as_json(record) in done]
    return records, jobs


def run_jobs(jobs: list[Job], engine: Engine, changed: Callable[[], None]) -> None:
    """Run all waiting jobs. A failed job stops only those that start from its weights.

    ``changed`` is called several times a second. On SIGINT or SIGTERM the running jobs write checkpoints and end, and
    Stopped is raised.
    """
    # The handler only stores the signal: an exception right after the start of a process would orphan it.
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, frame: caught.append(number)) for number in numbers}
    try:
        while any(job.state in ("waiting", "running") for job in jobs):
            if caught:
                raise Stopped(
                    "The sweep was interrupted. Its running jobs wrote checkpoints if they could.",
                    "Run the same command to resume.",
                    code=128 + caught[0],
                )
            _fail_without_a_start(jobs)
            _submit_ready(jobs, engine)
            _take_states(jobs, engine)
            changed()
            time.sleep(POLL_SECONDS)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _stop_running(jobs, engine)


def _fail_without_a_start(jobs: list[Job]) -> None:
    """Mark jobs as failed if the run that they start from failed."""
    failed = {job.name for job in jobs if job.state == "failed"}
    for job in jobs:
        if job.state == "waiting" and job.after in failed:
            job.log.write_text(f"not started: {job.after}, whose weights it requires, failed\n", "utf-8")
            job.state, job.code = "failed", 1


def _submit_ready(jobs: list[Job], engine: Engine) -> None:
    """Submit jobs in order, up to the engine's capacity."""
    done = {job.name for job in jobs if job.state == "done"}
    running = sum(job.state == "running" for job in jobs)
    for job in jobs:
        if engine.workers is not None and running >= engine.workers:
            return
        if job.state == "waiting" and (job.after is None or job.after in done):
            engine.submit(job)
            job.state = "running"
            running += 1


def _take_states(jobs: list[Job], engine: Engine) -> None:
    states = engine.poll()
    for job in jobs:
        if job.state == "running":
            job.state, job.code = states[job.name]


def _stop_running(jobs: list[Job], engine: Engine) -> None:
    """Cancel the running jobs, and wait until they end."""
    running = {job.name for job in jobs if job.state == "running"}
    for job in jobs:
        if job.name in running:
            engine.cancel(job)
            job.state = "stopped"
    while any(name in running and state.state == "running" for name, state in engine.poll().items()):
        time.sleep(POLL_SECONDS)


def make_jobs(
    sweep: Sweep, runs_dir: Path, bundles: Sequence[Path], say: Callable[[str], None], write: bool = False
) -> list[Job]:
    """All jobs: done in ``runs_dir``, done in a bundle, or waiting. ``write``: write the specs of the waiting ones."""
    jobs = [make_job(plan, sweep, runs_dir, write=False) for plan in sweep.jobs]
    done = {job.name for job in jobs if job.state == "done"}
    selection = select(sweep, bundles, say)
    starts: dict[str, str] = {}
    for plan in reversed(sweep.jobs):  # jobs are ordered: the run that a job starts from is earlier
        runs = plan.name not in done and (plan.name not in selection.jobs or plan.name in starts)
        if runs and plan.after and plan.after not in done:
            starts[plan.after] = plan.name
    selection = selection.without(starts)
    for sentence in selection.sentences(done):
        say(sentence)
    for job in jobs:
        if job.name not in done and job.name in selection.jobs:
            job.state, job.bundled = "done", selection.jobs[job.name]
    if not write:
        return jobs
    return [
        make_job(plan, sweep, runs_dir, write=True) if job.state == "waiting" else job
        for plan, job in zip(sweep.jobs, jobs, strict=True)
    ]


def make_job(plan: JobPlan, sweep: Sweep, runs_dir: Path, write: bool) -> Job:
    """The job of a plan, done or waiting. If ``write``, the spec of a waiting job is written."""
    spec = {
        "posx": NUMERICS,  # other versions may compute or record something else
        "name": plan.name,
        "runs_dir": str(runs_dir),
        "config": asdict(plan.config),
        "evals": [asdict(one) for one in plan.evals],
        "after": plan.after,
        **sweep.catalog.as_json(),
    }
    path = runs_dir / ".jobs" / f"{plan.name}.json"
    if _is_done(plan.name, path, spec, runs_dir):
        return Job(plan.name, path, state="done", after=plan.after)
    if not write:
        return Job(plan.name, path, after=plan.after)
    try:
        write_json(path, spec)
    except OSError as error:
        raise PosxError(f"{path.parent} cannot be written: {error.strerror}.", "Choose another --runs-dir.") from None
    return Job(plan.name, path, after=plan.after)


def _is_done(name: str, path: Path, spec: dict[str, Any], runs_dir: Path) -> bool:
    """Whether the same spec is done, and the run still has the records that it listed."""
    finished = path.with_suffix(".done")
    if not finished.is_file() or not (runs_dir / name / "config.yaml").is_file():
        return False
    done = read_json(finished, "a finished job")
    if {**done["spec"], "runs_dir": ""} != {**spec, "runs_dir": ""}:
        return False
    there = [as_json(record) for record in current_records(runs_dir / name)]
    return all(values in there for values in done["records"])
