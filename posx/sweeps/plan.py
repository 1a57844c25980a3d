"""Sweeps: one file, many runs. Each job is named by what it computes, so that a second sweep does only what is missing.

What a file says is in sweep_file.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from posx.config.catalog import Catalog
from posx.config.compose import compose_eval, key_of, quote
from posx.config.lengths import check_windows, comparable, parse_length
from posx.config.schema import TRAINED, EvalConfig, RunConfig
from posx.config.validate import check_eval
from posx.data.corpus import prepare
from posx.data.sampling import check_long_enough
from posx.errors import PosxError
from posx.evaluation.protocols.fixed_targets import targets_of
from posx.models.binding import check_fit, parse_extension
from posx.models.build import compose_run, scheme_of
from posx.models.classes import known_extensions
from posx.results.records import Record, as_json, current_records
from posx.runs.directory import folder_name
from posx.runs.identity import NUMERICS, job_hash
from posx.runtime.device import pick_device
from posx.runtime.threads import cores
from posx.sweeps.dashboard import Board
from posx.sweeps.engines import Job, run_local
from posx.sweeps.file import FinetuneConfig, SchemeEntry, read_sweep_file
from posx.training.finetune import compose_finetune, default_name
from posx.training.recipes import follows_positions
from posx.utils.console import Display, to_stdout
from posx.utils.files import read_json, write_json


@dataclass(frozen=True)
class JobPlan:
    """A job before it is started; ``after`` names the job whose weights it starts from."""

    name: str
    config: RunConfig
    evals: list[EvalConfig]  # one a protocol
    after: str | None = None


@dataclass(frozen=True)
class Sweep:
    """A sweep, read and checked."""

    name: str
    jobs: list[JobPlan]
    catalog: Catalog


def read_sweep(
    path: Path,
    overrides: list[str],
    say: Callable[[str], None],
    catalog: Catalog,
    finetune: bool = True,
) -> Sweep:
    """Compose and check every job before any work; the corpora are prepared, since names depend on them.

    Without ``finetune`` the runs that start from others are left out, and what they are evaluated with.
    """
    file, entries = read_sweep_file(path, overrides)
    planned: list[_Planned] = []
    for entry in entries:
        # Nearest to the command line wins: the file, then the row, then what was typed.
        mine = [*file.overrides, *entry.overrides, *overrides]
        to_run = [o for o in mine if not key_of(o).startswith("eval.")]
        to_eval = [o for o in mine if key_of(o).startswith("eval.")]
        asked = replace(compose_eval(to_eval, catalog), extensions=_for_row(file.extensions, entry, [TRAINED]))
        if not any(key_of(o) == "eval.lengths" for o in to_eval):
            asked = replace(asked, lengths=list(file.lengths))
        check_eval(asked)
        protocols = [asked.protocol] if any(key_of(o) == "eval.protocol" for o in to_eval) else file.protocols
        for seed in file.seeds:
            own = [f"scheme={entry.scheme}", *to_run, f"label={entry.label}", f"train.seed={seed}"]
            config = compose_run(own, catalog)
            tunes = list(_finetunes(config, entry, file.finetune, catalog)) if finetune else []
            # A fine-tune's extension without the training is the first point of its curve.
            also = [tuned.train.extension for tuned in tunes]
            first_asked = replace(asked, extensions=list(dict.fromkeys([*asked.extensions, *also])))
            first = _Planned(config, first_asked, protocols)
            planned.append(first)
            for control in file.controls if seed in (file.control_seeds or file.seeds) else []:
                context = _control_context(control, asked, first.config.base_context, path)
                long = compose_run([*own, f"train.context={context}"], catalog)
                lengths = [str(first.config.base_context), str(context)]
                long_asked = replace(asked, extensions=["none"], lengths=lengths)
                planned.append(_Planned(long, long_asked, ["fixed-targets"], first))
            for tuned in tunes:
                tuned_asked = replace(asked, extensions=[TRAINED])
                planned.append(_Planned(tuned, tuned_asked, ["fixed-targets"], first, starts_from_first=True))
    _check_extensions(planned, catalog)
    contexts = [plan.config.base_context for plan in planned if plan.first is None]
    jobs: list[JobPlan] = []
    for plan in planned:
        jobs.append(_job_plan(plan, contexts, say))
        plan.name = jobs[-1].name
    _check_unlike(jobs, path)
    return Sweep(path.stem, jobs, catalog)


@dataclass
class _Planned:
    """A run and what is asked of it, before it has a name; a control or a fine-tune belongs to a ``first`` run."""

    config: RunConfig
    asked: EvalConfig
    protocols: list[str]
    first: _Planned | None = None
    starts_from_first: bool = False
    name: str = ""


def _job_plan(plan: _Planned, contexts: list[int], say: Callable[[str], None]) -> JobPlan:
    """Name the run after what it computes, and check what needs its corpus."""
    # Controls and fine-tunes are scored on the targets of the run that they stand beside.
    fixed = comparable((plan.first or plan).asked, contexts)
    asked = replace(plan.asked, stride=fixed.stride, target_context=fixed.target_context)
    evals = [replace(asked, protocol=protocol) for protocol in plan.protocols]
    config, context = plan.config, plan.config.base_context
    for one in evals:
        check_eval(one)
        check_windows(one, [context, *(parse_length(text, context) for text in one.lengths)])
    corpus = prepare(config.data, config.tokenizer, say)
    check_long_enough(corpus, config.train.context)
    if any(one.protocol in ("fixed-targets", "curve") for one in evals):
        targets_of(corpus, asked, context)
    after = plan.first.name if plan.first and plan.starts_from_first else None
    config.start.run = after or ""
    digest = job_hash(config, corpus.sha256, corpus.tokenizer_sha256)
    shown = folder_name((plan.first or plan).config.label, config.scheme["name"])
    if after:
        shown = default_name(replace(config, start=replace(config.start, run=shown)))
    return JobPlan(f"{shown}-seed{config.train.seed}-{digest}", config, evals, after)


def _control_context(text: str, asked: EvalConfig, base_context: int, path: Path) -> int:
    """The training context of a control, which must be a length that is evaluated."""
    context = parse_length(text, base_context)
    if context == base_context or context not in [parse_length(length, base_context) for length in asked.lengths]:
        raise PosxError(
            f"{path}: the control {text} is not a longer length that is evaluated ({', '.join(asked.lengths)}).",
            f"Add {text} to lengths, or drop it from controls.",
        )
    return context


def _for_row(by_row: dict[str, list[str]], entry: SchemeEntry, otherwise: list[str]) -> list[str]:
    """What a row is given, by its label or else by its scheme."""
    return by_row.get(entry.label, by_row.get(entry.scheme, otherwise))


def _finetunes(first: RunConfig, entry: SchemeEntry, tune: FinetuneConfig, catalog: Catalog) -> Iterator[RunConfig]:
    """The fine-tunes of a run: each recipe, extension and number of steps, and the control at the old context."""
    old = f"train.context={first.base_context}"
    kinds: list[tuple[str, list[str]]] = []  # an extension, and the other overrides
    for recipe in _for_row(tune.recipes, entry, ["none"]):
        where = {"pose": [old, f"train.reach={tune.context}"], "drop": [old]}.get(
            recipe, [f"train.context={tune.context}"]
        )
        extensions = _for_row(tune.extensions, entry, ["none"])
        if recipe == "drop":
            extensions = ["none"]
        if recipe == "pose":  # with those that it can be trained with
            specs = {text: parse_extension(text, catalog) for text in extensions}
            extensions = [text for text in extensions if all(follows_positions(one) for one in specs[text])]
        kinds += [(extension, [f"train.recipe={quote(recipe)}", *where]) for extension in extensions]
    if tune.control:
        kinds.append(("none", [old]))
    for steps in filter(None, tune.steps):  # 0 is the first run itself, which is there anyway
        for extension, others in kinds:
            own = [*others, f"train.steps={steps}", f"train.extension={quote(extension)}"]
            yield compose_finetune(first, "first", [*tune.overrides, *own], catalog)


def _check_unlike(jobs: list[JobPlan], path: Path) -> None:
    """Two jobs of one name would be one run."""
    names = [job.name for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise PosxError(f"{path} names the same run twice: {name}.", "Drop one of the two.")


def _check_extensions(planned: list[_Planned], catalog: Catalog) -> None:
    """A pair that makes no sense is refused now, not after an hour of training."""
    known = known_extensions(catalog)
    for plan in planned:
        scheme = scheme_of(plan.config, catalog)
        for text in plan.asked.extensions:
            check_fit(parse_extension(text, catalog), plan.config.scheme["name"], scheme, known)


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
        board = Board({plan.name: plan.config for plan in sweep.jobs}, jobs, runs_dir, display)
        with board:
            run_local(jobs, workers, board.refresh)
    records = []
    for job in jobs:
        if job.state == "done":
            done = read_json(job.spec.with_suffix(".done"), "a finished job")["records"]
            records += [record for record in current_records(runs_dir / job.name) if as_json(record) in done]
    return records, jobs


def make_job(plan: JobPlan, sweep: Sweep, runs_dir: Path, write: bool) -> Job:
    """The job of a plan: done, or waiting with its spec written (with ``write``)."""
    spec = {
        "posx": NUMERICS,  # others may compute or record something else
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
    """Whether the same spec was done, and the records that it made are still those of the run."""
    finished = path.with_suffix(".done")
    if not finished.is_file() or not (runs_dir / name / "config.yaml").is_file():
        return False
    done = read_json(finished, "a finished job")
    if {**done["spec"], "runs_dir": ""} != {**spec, "runs_dir": ""}:
        return False
    there = [as_json(record) for record in current_records(runs_dir / name)]
    return all(values in there for values in done["records"])


def show_jobs(sweep: Sweep, runs_dir: Path) -> None:
    """The jobs of a sweep, and which of them are still to do."""
    table = Table("job", "scheme", "seed", "context", "steps", "lengths", "extensions", "state")
    for plan in sweep.jobs:
        done = make_job(plan, sweep, runs_dir, write=False).state == "done"
        table.add_row(
            plan.name,
            plan.config.scheme["name"],
            str(plan.config.train.seed),
            str(plan.config.train.context),
            str(plan.config.train.steps),
            " ".join(plan.evals[0].lengths),
            " ".join(dict.fromkeys(e.replace(TRAINED, plan.config.train.extension) for e in plan.evals[0].extensions)),
            "done" if done else "to do",
        )
    to_stdout().print(table, markup=False)
