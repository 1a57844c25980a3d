"""The interface of an engine: it runs jobs as processes, and reports their states."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from posx.results.records import Record

# After :meth:`Engine.cancel` a job finishes its step and writes a checkpoint; an engine waits this long.
SECONDS_TO_SAVE = 60


@dataclass(frozen=True)
class Bundled:
    """A finished job in bundles: the records of its requested evaluations, all of the same weights."""

    bundles: tuple[Path, ...]
    records: list[Record]

    @property
    def where(self) -> str:
        """The names of the bundles, separated by commas."""
        return ", ".join(map(str, self.bundles))


@dataclass
class Job:
    """A job and its state. ``spec`` is the file that posx.sweeps.job reads; the output goes to ``spec``.log.

    It is submitted when the job ``after`` is done.
    """

    name: str
    spec: Path
    after: str | None = None
    state: str = "waiting"  # waiting | running | done | failed | stopped
    code: int | None = None
    bundled: Bundled | None = None  # its records, if it is taken from bundles

    @property
    def log(self) -> Path:
        return self.spec.with_suffix(".log")

    @property
    def last_words(self) -> str:
        """The last line of the log, which usually says why a job failed."""
        lines = self.log.read_text("utf-8", "replace").strip().splitlines() if self.log.is_file() else []
        return lines[-1].strip() if lines else "no output"


class State(NamedTuple):
    """The state of a submitted job: running, done or failed. ``code``: the exit code, after its end."""

    state: str
    code: int | None = None


class Engine(Protocol):
    """Runs ``python -m posx.sweeps.job SPEC`` for each job that is submitted."""

    name: str
    workers: int | None  # jobs that are submitted at a time; None: all, and the engine queues them

    def submit(self, job: Job) -> None:
        """Start a job, or put it in a queue."""

    def poll(self) -> dict[str, State]:
        """The state of each submitted job, by name."""

    def cancel(self, job: Job) -> None:
        """Ask a running job to write a checkpoint and end; kill it after SECONDS_TO_SAVE. Does not wait."""
