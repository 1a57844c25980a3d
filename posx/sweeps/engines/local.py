"""The engine ``local``: processes on this machine, which share its cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress

from posx.runtime.threads import cores
from posx.sweeps.engines.base import SECONDS_TO_SAVE, Job, State


class Local:
    """Each job is a process. All have the same number of threads."""

    name = "local"

    def __init__(self, workers: int | None):
        self.workers = workers or cores()
        threads = str(max(1, cores() // self.workers))
        self.environment = os.environ | {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "RAYON_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "true",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.deadlines: dict[str, float] = {}  # of cancelled jobs

    def submit(self, job: Job) -> None:
        """Start its process."""
        with job.log.open("wb") as log:
            self.processes[job.name] = subprocess.Popen(
                [sys.executable, "-m", "posx.sweeps.job", str(job.spec)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,  # so that Ctrl-C reaches it only through cancel
            )

    def poll(self) -> dict[str, State]:
        """The states of the processes. A cancelled job that takes too long is killed."""
        states = {}
        for name, process in self.processes.items():
            code = process.poll()
            if code is None and time.monotonic() > self.deadlines.get(name, float("inf")):
                process.kill()
            states[name] = State("running") if code is None else State("done" if code == 0 else "failed", code)
        return states

    def cancel(self, job: Job) -> None:
        """Send SIGTERM: the job finishes its step and writes a checkpoint."""
        with suppress(ProcessLookupError):
            self.processes[job.name].terminate()
        self.deadlines[job.name] = time.monotonic() + SECONDS_TO_SAVE
