"""What an engine is: it runs jobs as processes somewhere, and says how far they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from posx.results.records import Record

# What an engine waits for after :meth:`Engine.cancel`: a job ends its step and writes a checkpoint.
SECONDS_TO_SAVE = 60


@dataclass(frozen=True)
class Bundled:
    """A finished job in bundles: the records of its requested evaluations, all of the same weights."""

    bundles: tuple[Path, ...]
    records: list[Record]

    @property
    def where(self) -> str:
        """The bundles, in words."""
        return ", ".join(map(str, self.bundles))


@dataclass
class Job:
    """A job and how far it is. ``spec`` is the file that posx.sweeps.job reads; its output goes to ``spec``.log.

    It is submitted once the job ``after`` is done.
    """

    name: str
    spec: Path
    after: str | None = None
    state: str = "waiting"  # waiting | running | done | failed | stopped
    code: int | None = None
    bundled: Bundled | None = None  # its records, if it is done because bundles hold it

    @property
    def log(self) -> Path:
        return self.spec.with_suffix(".log")

    @property
    def last_words(self) -> str:
        """The last line of the log: why a failed job failed."""
        lines = self.log.read_text("utf-8", "replace").strip().splitlines() if self.log.is_file() else []
        return lines[-1].strip() if lines else "it said nothing"


class State(NamedTuple):
    """How far a submitted job is: running, done or failed; ``code`` is the exit code once it ended."""

    state: str
    code: int | None = None


class Engine(Protocol):
    """Runs ``python -m posx.sweeps.job SPEC`` for each job that is submitted."""

    name: str
    workers: int | None  # jobs that are submitted at a time; None: all of them, and the engine queues them

    def submit(self, job: Job) -> None:
        """Start a job, or put it in a queue."""

    def poll(self) -> dict[str, State]:
        """The state of each submitted job, by name."""

    def cancel(self, job: Job) -> None:
        """Let a running job save a checkpoint and end; end it after SECONDS_TO_SAVE if it does not. Does not wait."""
