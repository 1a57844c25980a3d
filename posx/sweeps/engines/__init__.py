"""Where the jobs of a sweep run. ``local``: processes on this machine, which share its cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from posx.errors import PosxError
from posx.runtime.threads import cores

POLL_SECONDS = 0.25
SECONDS_TO_SAVE = 60  # what a job gets to end its step and write a checkpoint


class Stopped(PosxError):
    """A signal ended a sweep; what was running has saved itself."""


@dataclass
class Job:
    """A job and how far it is. ``spec`` is the file that posx.sweeps.job reads; its output goes to ``spec``.log.

    It starts once the job ``after`` is done.
    """

    name: str
    spec: Path
    after: str | None = None
    state: str = "waiting"  # waiting | running | done | failed | stopped
    code: int | None = None

    @property
    def log(self) -> Path:
        return self.spec.with_suffix(".log")

    @property
    def last_words(self) -> str:
        """The end of the log: what a failed job said."""
        lines = self.log.read_text("utf-8", "replace").strip().splitlines() if self.log.is_file() else []
        return lines[-1].strip() if lines else "it said nothing"


def run_local(jobs: list[Job], workers: int, changed: Callable[[], None]) -> None:
    """Run all jobs, ``workers`` at a time; a failed one does not stop the others.

    ``changed`` is called several times a second. On SIGINT or SIGTERM the running jobs are asked to save and stop,
    and Stopped is raised.
    """
    threads = str(max(1, cores() // workers))
    environment = os.environ | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "RAYON_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "true",
    }
    waiting = [job for job in jobs if job.state == "waiting"]
    running: dict[subprocess.Popen[bytes], Job] = {}
    # Only noted: an exception between starting a process and remembering it would leave that process behind.
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, frame: caught.append(number)) for number in numbers}
    with ExitStack() as logs:
        try:
            while waiting or running:
                if caught:
                    raise Stopped(
                        "The sweep was stopped; its running jobs were asked to write a checkpoint.",
                        "The same command goes on where they stopped.",
                        code=128 + caught[0],
                    )
                for job in _without_a_start(waiting, jobs):
                    job.log.write_text(f"not started: {job.after}, whose weights it starts from, failed\n", "utf-8")
                    job.state, job.code = "failed", 1
                    waiting.remove(job)
                while len(running) < workers and (ready := _next(waiting, jobs)) is not None:
                    job = ready
                    waiting.remove(job)
                    log = logs.enter_context(job.log.open("wb"))
                    process = subprocess.Popen(
                        [sys.executable, "-m", "posx.sweeps.job", str(job.spec)],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env=environment,
                        start_new_session=True,  # a Ctrl-C reaches it once, from us
                    )
                    running[process] = job
                    job.state = "running"
                for process in [p for p in running if p.poll() is not None]:
                    job = running.pop(process)
                    job.code = process.returncode
                    job.state = "done" if job.code == 0 else "failed"
                changed()
                time.sleep(POLL_SECONDS)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            _end(running)


def _next(waiting: list[Job], jobs: list[Job]) -> Job | None:
    """The first job that need not wait for another."""
    done = {job.name for job in jobs if job.state == "done"}
    return next((job for job in waiting if job.after is None or job.after in done), None)


def _without_a_start(waiting: list[Job], jobs: list[Job]) -> list[Job]:
    failed = {job.name for job in jobs if job.state == "failed"}
    return [job for job in waiting if job.after in failed]


def _end(running: dict[subprocess.Popen[bytes], Job]) -> None:
    """Ask jobs that still run to save and stop, and wait for them."""
    for process, job in running.items():
        process.terminate()
        job.state = "stopped"
    for process in running:
        try:
            process.wait(SECONDS_TO_SAVE)
        except subprocess.TimeoutExpired:
            process.kill()
