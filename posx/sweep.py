"""Sweeps: one file, many runs. Each job is named by what it computes, so that a second sweep does only what is missing.

schemes:                       # each a scheme, or one with overrides and a label
  - alibi
  - {scheme: rope, label: rope-500k, overrides: [scheme.base=500000]}
seeds: [0, 1, 2]
overrides: [model=tiny, train.steps=500, eval.max_targets=2048]    # for all; eval.* goes to the evaluation
lengths: [1x, 2x, 4x]
extensions: {rope: [none, pi, ntk]}    # by label or scheme; none where nothing is said
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.table import Table

from posx import __version__
from posx.components import check_fit, load_class
from posx.compose import (
    compose_eval,
    compose_run,
    key_of,
    known_extensions,
    options,
    parse_extension,
    read_yaml,
    typed,
)
from posx.config import EvalConfig, RunConfig, check_eval
from posx.corpus import prepare
from posx.engines import Job, run_local
from posx.errors import PosxError, unknown
from posx.evaluate import targets_of
from posx.files import read_json, sha256_of, write_json
from posx.machine import cores, pick_device
from posx.progress import Display, to_stdout
from posx.records import Record, current_records
from posx.runs import FREE_TO_CHANGE, Run, folder_name, metrics
from posx.schemes.base import Scheme
from posx.windows import check_long_enough, check_windows, comparable, parse_length

# Settings that a sweep file gives in fields of its own.
OWN_FIELDS = {"scheme": "schemes", "label": "schemes", "train.seed": "seeds", "eval.extensions": "extensions"}


@dataclass
class SweepConfig:
    """A sweep file."""

    schemes: list[Any] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    overrides: list[str] = field(default_factory=list)
    lengths: list[str] = field(default_factory=lambda: ["1x", "2x", "4x"])
    extensions: dict[str, list[str]] = field(default_factory=dict)
    description: str = ""


@dataclass
class SchemeEntry:
    """One row of ``schemes``."""

    scheme: str = ""
    label: str = ""
    overrides: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class JobPlan:
    """A job before it is started."""

    name: str
    config: RunConfig
    eval: EvalConfig


@dataclass(frozen=True)
class Sweep:
    """A sweep, read and checked."""

    name: str
    jobs: list[JobPlan]
    trust: bool
    config_dir: Path | None


def find_sweep(text: str, config_dir: Path | None) -> Path:
    """A sweep file by path, or by name among the configs."""
    if Path(text).is_file():
        return Path(text)
    if Path(text).is_dir():
        raise PosxError(f"{text} is a directory, not a sweep file.", "Name the file itself.")
    known = options("sweep", config_dir)
    if text in known:
        return known[text]
    if Path(text).suffix in (".yaml", ".yml"):
        raise PosxError(
            f"There is no sweep file {text}.", f"Check the path, or use one of: {', '.join(sorted(known))}."
        )
    raise unknown("sweep", text, known)


def read_sweep(
    path: Path, overrides: list[str], say: Callable[[str], None], config_dir: Path | None, trust: bool
) -> Sweep:
    """Compose and check every job before any work; the corpora are prepared, since names depend on them."""
    file = typed(SweepConfig, read_yaml(path, "sweep file"), source=f" in {path}")
    for key in ("schemes", "seeds", "lengths"):
        if not getattr(file, key):
            raise PosxError(f"{path} names no {key}.", "See configs/sweep/quick.yaml.")
    entries = [_entry(item, path) for item in file.schemes]
    named: dict[str, list[Any]] = {"label": [entry.label for entry in entries], "seed": list(file.seeds)}
    for what, values in named.items():
        for value in values:
            if values.count(value) > 1:
                raise PosxError(f"{path} uses the {what} {value} twice.", f"Give each a {what} of its own.")
    rows = {entry.label for entry in entries} | {entry.scheme for entry in entries}
    for row in file.extensions:
        if row not in rows:
            raise unknown("row", row, rows, f" in {path} for the extensions")
    _check_overrides([*file.overrides, *overrides, *(o for entry in entries for o in entry.overrides)], path)
    composed = []
    for entry in entries:
        # Nearest to the command line wins: the file, then the row, then what was typed.
        mine = [*file.overrides, *entry.overrides, *overrides]
        to_run = [o for o in mine if not key_of(o).startswith("eval.")]
        to_eval = [o for o in mine if key_of(o).startswith("eval.")]
        extensions = file.extensions.get(entry.label, file.extensions.get(entry.scheme, ["none"]))
        asked = replace(compose_eval(to_eval, config_dir), extensions=list(extensions))
        if not any(key_of(o) == "eval.lengths" for o in to_eval):
            asked = replace(asked, lengths=list(file.lengths))
        check_eval(asked)
        for seed in file.seeds:
            config = compose_run(
                [f"scheme={entry.scheme}", *to_run, f"label={entry.label}", f"train.seed={seed}"], config_dir, trust
            )
            composed.append((config, asked))
    _check_extensions(composed, config_dir, trust)
    contexts = [config.train.context for config, _ in composed]
    jobs = []
    for config, asked in composed:
        fixed = comparable(asked, contexts)
        context = config.train.context
        check_windows(fixed, [context, *(parse_length(text, context) for text in fixed.lengths)])
        corpus = prepare(config.data, config.tokenizer, say)
        check_long_enough(corpus, context)
        if fixed.protocol == "fixed-targets":
            targets_of(corpus, fixed, context)
        digest = sha256_of(_identity(config), corpus.sha256, corpus.tokenizer_sha256)[:8]
        name = f"{folder_name(config.label, config.scheme['name'])}-seed{config.train.seed}-{digest}"
        jobs.append(JobPlan(name, config, fixed))
    return Sweep(path.stem, jobs, trust, config_dir)


def _check_overrides(overrides: list[Any], path: Path) -> None:
    """Overrides are texts, and leave alone what the file says in a field of its own."""
    for override in overrides:
        if not isinstance(override, str) or "=" not in override:
            raise PosxError(f"{path}: '{override}' is not an override.", "Write them like train.steps=100.")
        if key_of(override) in OWN_FIELDS:
            field_name = OWN_FIELDS[key_of(override)]
            raise PosxError(f"{override} would contradict {path}.", f"Change its field '{field_name}' instead.")


def _entry(item: Any, path: Path) -> SchemeEntry:
    entry = typed(SchemeEntry, {"scheme": item} if isinstance(item, str) else item, source=f" in {path}, under schemes")
    if not entry.scheme:
        raise PosxError(
            f"{path}: a row of schemes names no scheme: {item}.",
            "Write - rope, or - {scheme: rope, label: …}.",
        )
    entry.label = entry.label or entry.scheme
    return entry


def _check_extensions(composed: list[tuple[RunConfig, EvalConfig]], config_dir: Path | None, trust: bool) -> None:
    """A pair that makes no sense is refused now, not after an hour of training."""
    known = known_extensions(config_dir, trust)
    for config, asked in composed:
        scheme = load_class(config.scheme["_target_"], Scheme, trust)
        for text in asked.extensions:
            check_fit(parse_extension(text, config_dir, trust), config.scheme["name"], scheme, known)


def _identity(config: RunConfig) -> dict[str, Any]:
    """The config without what changes no result."""
    values = asdict(config)
    for key in FREE_TO_CHANGE - {"label"}:
        section, _, name = key.partition(".")
        values[section].pop(name)
    return values


def run_sweep(sweep: Sweep, runs_dir: Path, workers: int | None, display: Display) -> tuple[list[Record], list[Job]]:
    """Run what is missing. Returns the records of all jobs that are done, in the sweep's order, and the jobs."""
    jobs = [make_job(plan, sweep, runs_dir, write=True) for plan in sweep.jobs]
    missing = sum(job.state == "waiting" for job in jobs)
    if workers is None:
        gpu = any(pick_device(plan.config.train.device).type == "cuda" for plan in sweep.jobs)
        workers = 1 if gpu else max(1, min(missing, cores()))
    display.say(
        f"Sweep {sweep.name}: {len(jobs)} jobs, {missing} to do, {workers} at a time on {cores()} cores. "
        f"Logs: {runs_dir / '.jobs'}"
    )
    if missing:
        board = Board(sweep, jobs, runs_dir, display)
        with board:
            run_local(jobs, workers, board.refresh)
    records = []
    for job in jobs:
        if job.state == "done":
            done = read_json(job.spec.with_suffix(".done"), "a finished job")
            records += [Record(**values) for values in done["records"]]
    return records, jobs


def make_job(plan: JobPlan, sweep: Sweep, runs_dir: Path, write: bool) -> Job:
    """The job of a plan: done, or waiting with its spec written (with ``write``)."""
    spec = {
        "posx": __version__,  # another version may compute or record something else
        "name": plan.name,
        "runs_dir": str(runs_dir),
        "config": asdict(plan.config),
        "eval": asdict(plan.eval),
        "config_dir": str(sweep.config_dir) if sweep.config_dir else None,
        "trust": sweep.trust,
    }
    path = runs_dir / ".jobs" / f"{plan.name}.json"
    if _is_done(plan.name, path, spec, runs_dir):
        return Job(plan.name, path, state="done")
    if not write:
        return Job(plan.name, path)
    try:
        write_json(path, spec)
    except OSError as error:
        raise PosxError(f"{path.parent} cannot be written: {error.strerror}.", "Choose another --runs-dir.") from None
    return Job(plan.name, path)


def _is_done(name: str, path: Path, spec: dict[str, Any], runs_dir: Path) -> bool:
    """Whether the same spec was done, and the records that it made are still those of the run."""
    finished = path.with_suffix(".done")
    if not finished.is_file() or not (runs_dir / name / "config.yaml").is_file():
        return False
    done = read_json(finished, "a finished job")
    if {**done["spec"], "runs_dir": ""} != {**spec, "runs_dir": ""}:
        return False
    there = [asdict(record) for record in current_records(runs_dir / name)]
    return all(values in there for values in done["records"])


class Board:
    """All jobs at a glance: a live table on a terminal, a line at each change elsewhere."""

    def __init__(self, sweep: Sweep, jobs: list[Job], runs_dir: Path, display: Display):
        self.plans = {plan.name: plan for plan in sweep.jobs}
        self.jobs, self.runs_dir, self.display = jobs, runs_dir, display
        self.live = Live(console=display.console, refresh_per_second=2, transient=True) if display.live else None
        self.said: dict[str, str] = {}
        self.ticks = 0

    def __enter__(self) -> Board:
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
        """State, step and loss; ``coarse`` changes only at every fifth of the steps."""
        if job.state == "failed":
            return f"failed ({job.code}): {job.last_words}"
        if job.state != "running":
            return job.state
        steps = self.plans[job.name].config.train.steps
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
        return metrics(Run(self.runs_dir / job.name, self.plans[job.name].config))

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("job")
        table.add_column("state")
        for job in self.jobs:
            table.add_row(job.name, self._line(job))
        return table


def show_jobs(sweep: Sweep, runs_dir: Path) -> None:
    """The jobs of a sweep, and which of them are still to do."""
    table = Table("job", "scheme", "seed", "steps", "lengths", "extensions", "state")
    for plan in sweep.jobs:
        done = make_job(plan, sweep, runs_dir, write=False).state == "done"
        table.add_row(
            plan.name,
            plan.config.scheme["name"],
            str(plan.config.train.seed),
            str(plan.config.train.steps),
            " ".join(plan.eval.lengths),
            " ".join(plan.eval.extensions),
            "done" if done else "to do",
        )
    to_stdout().print(table, markup=False)
