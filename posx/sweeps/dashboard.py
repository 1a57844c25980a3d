"""A sweep on the terminal: its jobs before it runs, and their progress while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.table import Table

from posx.config.schema import TRAINED, RunConfig
from posx.runs.directory import Run, metrics
from posx.sweeps.engines.base import Job
from posx.sweeps.plan import Sweep
from posx.utils.console import Display


class Dashboard:
    """The progress of all jobs: a live table on a terminal, otherwise a line for each change."""

    def __init__(self, configs: Mapping[str, RunConfig], jobs: list[Job], runs_dir: Path, display: Display):
        self.configs = configs
        self.jobs, self.runs_dir, self.display = jobs, runs_dir, display
        self.live = Live(console=display.console, refresh_per_second=2, transient=True) if display.live else None
        self.said: dict[str, str] = {}
        self.ticks = 0

    def __enter__(self) -> Dashboard:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *unused: object) -> None:
        if self.live:
            self.live.stop()

    def refresh(self) -> None:
        """Called by the engine several times a second."""
        self.ticks += 1
        if self.live:
            if self.ticks % 3 == 1:
                self.live.update(self._table())
            return
        for job in self.jobs:
            line = self._line(job, coarse=True)
            if job.state != "waiting" and self.said.get(job.name) != line:
                self.said[job.name] = line
                self.display.say(f"{job.name}  {line}")

    def _line(self, job: Job, coarse: bool = False) -> str:
        """State, step and loss. ``coarse``: updated only at every fifth of the steps."""
        if job.state == "failed":
            return f"failed ({job.code}): {job.last_words}"
        if job.state != "running":
            return state_of(job)
        steps = self.configs[job.name].train.steps
        rows = self._metrics(job)
        if not rows:
            return "starting"
        if coarse:
            rows = [row for row in rows if "validation_nats_per_token" in row] or rows[:1]
        row = rows[-1]
        if row["step"] >= steps and not coarse:
            return f"evaluating: {job.last_words}"
        validation = next(
            (r["validation_nats_per_token"] for r in rows[::-1] if "validation_nats_per_token" in r), None
        )
        text = f"step {row['step']}/{steps}  loss {row['nats_per_token'] or float('nan'):.3f}"
        return text + (f"  validation {validation:.3f}" if validation is not None else "")

    def _metrics(self, job: Job) -> list[dict[str, Any]]:
        return metrics(Run(self.runs_dir / job.name, self.configs[job.name]))

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("job")
        table.add_column("state")
        for job in self.jobs:
            table.add_row(job.name, self._line(job))
        return table


def state_of(job: Job) -> str:
    """The state of a job, or the bundle that it is taken from."""
    return job.state if job.bundled is None else f"in {job.bundled.where}"


def jobs_table(sweep: Sweep, jobs: Sequence[Job]) -> Table:
    """The jobs of a sweep and their states."""
    table = Table("job", "scheme", "seed", "context", "steps", "lengths", "extensions", "state")
    for plan, job in zip(sweep.jobs, jobs, strict=True):
        table.add_row(
            plan.name,
            plan.config.scheme["name"],
            str(plan.config.train.seed),
            str(plan.config.train.context),
            str(plan.config.train.steps),
            " ".join(plan.evals[0].lengths),
            " ".join(dict.fromkeys(e.replace(TRAINED, plan.config.train.extension) for e in plan.evals[0].extensions)),
            "to do" if job.state == "waiting" else state_of(job),
        )
    return table
