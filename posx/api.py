"""What a notebook, a script and the command line call. Nothing here prints.

    config = posx.compose({"train.steps": 100}, scheme="rope")
    run = posx.train(config)
    records = posx.evaluate(run, ["1x", "2x"], ["none", "pi"])

Lengths and contexts are tokens, losses are nats, and a multiple such as ``"2x"`` is one of the base context. Every
mistake in what is passed is a :class:`PosxError`, whose text says what is wrong and what to do. ``progress`` is called
with :class:`Progress` events. ``catalog`` adds a folder of configs, and trust in classes from outside posx; a class
that is passed as an object is trusted in this process. Heavy packages are imported by the functions that need them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import TABLED, EvalConfig, RunConfig
from posx.errors import PosxError
from posx.results.records import Record
from posx.runs.directory import Run
from posx.utils.console import Display
from posx.utils.progress import Progress, as_display

if TYPE_CHECKING:  # for start-up time: these import torch, numpy or pandas
    from pandas import DataFrame

    from posx.data.corpus import Corpus
    from posx.evaluation.plan import Plan
    from posx.extensions.base import Extension
    from posx.results.cells import Cell
    from posx.schemes.base import Scheme
    from posx.sweeps.engines.base import Job
    from posx.sweeps.plan import Sweep

    Overrides = Sequence[str] | Mapping[str, Any]  # ["train.steps=100"] or {"train.steps": 100}
    OnProgress = Callable[[Progress], None] | Display | None
    ExtensionLike = str | type[Extension] | Extension


# ---------------------------------------------------------------- configs


def compose(
    overrides: Overrides = (),
    *,
    scheme: str | type[Scheme] | None = None,
    settings: Mapping[str, Any] | None = None,
    catalog: Catalog = PACKAGED,
) -> RunConfig:
    """The config of a training run, complete and checked.

    ``overrides`` are those of the command line, ``["train.steps=100"]``, or a mapping, ``{"train.steps": 100}``.
    ``scheme`` is a name, or a class, which needs no YAML; ``settings`` are its own, such as ``{"base": 500}``. In a
    mapping the value of ``train.extension`` can be a class or an instance too. Raises PosxError.
    """
    from posx.config.compose import as_overrides, compose_settings, key_of
    from posx.models.build import complete, compose_run, freeze_extension
    from posx.models.python_values import as_text, as_texts, scheme_config

    texts = as_texts(overrides, catalog)
    if not isinstance(scheme, type):
        texts += [f"scheme.{key}={as_text(value)}" for key, value in (settings or {}).items()]
        return compose_run(as_overrides([("scheme", "scheme", scheme)], texts), catalog)
    for text in texts:
        if key_of(text).split(".")[0] == "scheme":
            raise PosxError(
                f"{text} was given beside the class {scheme.__qualname__}.", "Give the settings of a class in settings."
            )
    config = compose_settings(as_overrides([], texts), catalog)
    config.scheme = {**(settings or {}), **scheme_config(scheme, catalog)}
    return freeze_extension(complete(config, catalog), catalog)


def compose_finetune(
    run: Run, changes: Overrides = (), *, runs_dir: Path | str | None = None, catalog: Catalog = PACKAGED
) -> RunConfig:
    """The config of a fine-tune of a finished run: its own, with ``changes`` in ``train.*``, ``optim.*`` and ``label``.

    Contexts can be multiples of the base context: ``{"train.context": "4x", "train.extension": "pi"}``. Without
    changes it trains for a tenth of the run's steps. ``runs_dir`` is where the fine-tune will be kept (default: beside
    the run). Raises PosxError.
    """
    from posx.models.python_values import as_texts
    from posx.training import finetune as tuning

    folder = run.path.parent if runs_dir is None else Path(runs_dir)
    beside = run.path.resolve().parent == folder.resolve()
    stored = run.name if beside else str(run.path.resolve())
    return tuning.with_weights(tuning.compose_finetune(run.config, stored, as_texts(changes, catalog), catalog), run)


# ---------------------------------------------------------------- training


def train(
    config: RunConfig,
    path: Path | str | None = None,
    *,
    resume: bool = False,
    progress: OnProgress = None,
    catalog: Catalog = PACKAGED,
) -> Run:
    """Train one model to its last step, and return its run directory.

    ``path`` is the run directory, such as ``runs/rope``; without one it is in ``runs`` and named after the settings.
    With ``resume`` a run that exists there is continued; without, it is an error. Raises PosxError, also where a
    signal interrupts training, which writes a checkpoint first.
    """
    from posx.data.corpus import prepare
    from posx.runs import directory
    from posx.training import loop

    config = _checked(config, catalog)
    path = default_path(config, resume=resume) if path is None else Path(path)
    display = as_display(progress)
    directory.check_name(path.name)
    if not resume and path.exists():
        directory.create(path.parent, path.name, config, False)  # refuses, before the corpus is built
    corpus = prepare(config.data, config.tokenizer, display.say)
    _check_before_writing(config, corpus)
    run = directory.create(path.parent, path.name, config, resume)
    if run.finished:
        display.say(f"{run.path} is finished: step {run.step} of {config.train.steps}.")
    else:
        loop.train(run, corpus, display, catalog)
    return run


def finetune(
    run: Run,
    changes: Overrides | RunConfig = (),
    path: Path | str | None = None,
    *,
    progress: OnProgress = None,
    catalog: Catalog = PACKAGED,
) -> Run:
    """Train on from the weights of a finished run, and return the new run.

    ``changes`` are those of :func:`compose_finetune`, or the config that it returned. The new run is beside the first
    one, unless ``path`` names its directory. :func:`train` with ``resume`` continues one. Raises PosxError.
    """
    folder = run.path.parent if path is None else Path(path).parent
    if not isinstance(changes, RunConfig):
        changes = compose_finetune(run, changes, runs_dir=folder, catalog=catalog)
    elif not changes.start.run:
        raise PosxError("This config starts from the weights of no run.", "Make it with compose_finetune(run, …).")
    path = default_path(changes, folder) if path is None else path
    return train(changes, path, progress=progress, catalog=catalog)


def estimate(config: RunConfig, *, progress: OnProgress = None, catalog: Catalog = PACKAGED) -> dict[str, Any]:
    """What a run will take, from a few timed steps: see :func:`posx.training.estimate.estimate`. Writes no run."""
    from posx.data.corpus import prepare
    from posx.training import estimate as estimates

    corpus = prepare(config.data, config.tokenizer, as_display(progress).say)
    return estimates.estimate(config, corpus, catalog)


def default_path(config: RunConfig, runs_dir: Path | str = "runs", *, resume: bool = False) -> Path:
    """The directory of a run that was given no name: one that is free, or with ``resume`` the one to continue."""
    from posx.runs import directory
    from posx.training import finetune as tuning

    name = tuning.default_name(config) if config.start.run else directory.default_name(config)
    return Path(runs_dir) / (name if resume else directory.free_name(Path(runs_dir), name))


def _checked(config: RunConfig, catalog: Catalog) -> RunConfig:
    """A copy, checked as if it had just been composed: its fields may have been changed since."""
    from posx.config.validate import check_train, typed
    from posx.models.build import complete, freeze_extension

    config = typed(RunConfig, asdict(config))
    check_train(config)
    return freeze_extension(complete(config, catalog), catalog)


def _check_before_writing(config: RunConfig, corpus: Corpus) -> None:
    """What can be refused before a run directory is made."""
    from posx.data.sampling import check_long_enough
    from posx.runtime import device as devices

    check_long_enough(corpus, config.train.context)
    devices.pick_device(config.train.device)


# ---------------------------------------------------------------- evaluation


def evaluate(
    runs: Run | Sequence[Run],
    lengths: Sequence[int | str] | None = None,
    extensions: Sequence[ExtensionLike] | None = None,
    *,
    progress: OnProgress = None,
    catalog: Catalog = PACKAGED,
    **settings: Any,
) -> list[Record]:
    """One record for each run, extension and length, and for the control at 1x, which comes first.

    ``lengths`` are tokens (3000) or multiples of the base context ("2x"). ``extensions`` are texts such as "none",
    "pi" and "ntk+window(w=64)", classes, or instances; without any, the model is evaluated as it was trained.
    ``settings`` are fields of :class:`posx.config.schema.EvalConfig`: ``protocol="curve"``, ``max_targets=1024``;
    ``protocol="all"`` is fixed-targets, non-overlapping and stream. Several runs share their targets.

    A record holds a sum of nats over ``n_targets`` tokens; ``record.nats_per_token`` is their mean. A cell that cannot
    be computed is a record with a ``status`` and a ``reason``. Records are also written to the runs, and those that
    are there are not computed again. Raises PosxError, also where nothing that was requested could be computed, or
    one of several evaluations was impossible; the records of the others are then in their runs.
    """
    from posx.models.python_values import as_text, extension_text

    texts = None if extensions is None else [extension_text(one, catalog) for one in extensions]
    sizes = None if lengths is None else [str(length) for length in lengths]
    protocol = settings.pop("protocol", None)
    overrides = [f"eval.{key}={as_text(value)}" for key, value in settings.items()]
    configs = compose_evaluations(sizes, texts, protocol, overrides, catalog)
    plans = plan_evaluations([runs] if isinstance(runs, Run) else runs, configs, catalog)
    return compute(plans, progress, strict=True)


def compose_evaluations(
    lengths: list[str] | None,
    extensions: list[str] | None,
    protocol: str | None,
    overrides: Sequence[str],
    catalog: Catalog = PACKAGED,
) -> list[EvalConfig]:
    """One config for each protocol, complete and checked; ``overrides`` are texts, ``eval.max_targets=1024``."""
    from posx.config.compose import as_overrides, compose_eval

    configs = []
    for name in TABLED if protocol == "all" else [protocol]:
        flags = [
            ("--length", "eval.lengths", lengths),
            ("--extension", "eval.extensions", extensions),
            ("--protocol", "eval.protocol", name),
        ]
        configs.append(compose_eval(as_overrides(flags, overrides), catalog))
    return configs


def plan_evaluations(runs: Sequence[Run], configs: Sequence[EvalConfig], catalog: Catalog = PACKAGED) -> list[Plan]:
    """What :func:`compute` will do, after every check that needs no work. Raises PosxError."""
    from posx.config.lengths import comparable
    from posx.evaluation.plan import make_plan

    contexts = [run.config.base_context for run in runs]
    return [make_plan(run, comparable(config, contexts), catalog) for run in runs for config in configs]


def compute(plans: Sequence[Plan], progress: OnProgress = None, *, strict: bool = False) -> list[Record]:
    """The records of all plans, in their order.

    An evaluation that fails does not stop the others, and is a message. PosxError is raised at the end where all of
    them failed; with ``strict``, also where one of them left no records.
    """
    from posx.evaluation.evaluate import evaluate_all, nothing_computed

    display = as_display(progress)
    records: list[Record] = []
    failures: list[PosxError] = []
    without_records: list[PosxError] = []
    for plan in plans:
        try:
            computed = evaluate_all(plan, display)
            records += computed
            failure = nothing_computed(plan, computed)
        except PosxError as error:
            failure = error
            without_records.append(error)
        if failure is not None:
            failures.append(failure)
            if len(plans) > 1:
                display.say(str(failure))
    if failures and len(failures) == len(plans):
        raise failures[0]
    if strict and without_records:
        raise without_records[0]
    return records


# ---------------------------------------------------------------- sweeps


@dataclass(frozen=True)
class Table:
    """Records, and what they come to: ``posx.Table(records).to_markdown()``."""

    records: list[Record]
    failed: list[Job] = field(default_factory=list)  # jobs of a sweep that failed; ``last_words`` says why

    @cached_property
    def cells(self) -> list[Cell]:
        """Means over seeds with the change from 1x and its interval, for every protocol."""
        from posx.results.aggregate import aggregate

        return aggregate(self.records)

    def render(self, form: str, protocol: str | None = None) -> str:
        """The table as the text of a file: md, csv, latex or json.

        ``protocol``: that of the evaluations, or "all"; without one fixed-targets, if there are any. Raises PosxError.
        """
        from posx.reporting.formats import find_format, render
        from posx.reporting.grouping import ALL, choose

        return render(choose(self.cells, protocol), find_format(form).name, protocol == ALL)

    def to_markdown(self, protocol: str | None = None) -> str:
        """The table as GitHub and notebooks show it."""
        return self.render("md", protocol)

    def to_pandas(self) -> DataFrame:
        """One row for each cell, with the keys of ``posx table --format json``."""
        from pandas import DataFrame

        return DataFrame(json.loads(self.render("json")))

    def _repr_markdown_(self) -> str:
        return self.to_markdown() if self.records else "No records."


def sweep(
    path: Path | str | Sweep,
    overrides: Overrides = (),
    *,
    runs_dir: Path | str = "runs",
    workers: int | None = None,
    bundles: Sequence[Path | str] = (),
    progress: OnProgress = None,
) -> Table:
    """Train and evaluate all that a sweep file lists, in processes of their own; what is done already is kept.

    ``path`` is a YAML file, the name of a packaged one ("quick"), or what :func:`plan_sweep` returned, which takes a
    catalog. ``workers`` jobs run at a time; without a number, as many as suit the machine. A job that fails does not
    stop the others and is in ``failed``. A job that one of ``bundles`` (folders that ``posx bundle`` wrote) holds with
    every requested evaluation is not run: its records are read from there. Call it in the main thread: it handles
    signals. Raises PosxError.
    """
    from posx.sweeps.plan import Sweep
    from posx.sweeps.run import run_sweep

    display = as_display(progress)
    plan = path if isinstance(path, Sweep) else plan_sweep(path, overrides, progress=display)
    records, jobs = run_sweep(plan, Path(runs_dir), workers, display, [Path(bundle) for bundle in bundles])
    return Table(records, [job for job in jobs if job.state != "done"])


def plan_sweep(
    path: Path | str,
    overrides: Overrides = (),
    *,
    finetune: bool = True,
    progress: OnProgress = None,
    catalog: Catalog = PACKAGED,
) -> Sweep:
    """The jobs of a sweep, composed and checked; ``finetune``: those that start from other runs too. PosxError."""
    from posx.config.compose import as_overrides
    from posx.models.python_values import as_texts
    from posx.sweeps.file import find_sweep
    from posx.sweeps.plan import read_sweep

    file = find_sweep(str(path), catalog)
    texts = as_overrides([], as_texts(overrides, catalog))
    return read_sweep(file, texts, as_display(progress).say, catalog, finetune)


# ---------------------------------------------------------------- what is there


def load_run(path: Path | str) -> Run:
    """The run in a directory: its ``config``, ``step``, ``finished``, ``meta``. Raises PosxError."""
    from posx.runs.directory import open_run

    return open_run(Path(path))


def load_records(path: Path | str = "runs") -> DataFrame:
    """One row for each record of a run, or of all runs in a directory: the fields of :class:`Record`, and what follows.

    What follows: ``nats_per_token`` (nats), ``perplexity``, ``bits_per_byte``, ``multiple`` (of the base context).
    They are NaN where nothing was computed. Raises PosxError where there is no record.
    """
    from posx.results.frame import as_frame
    from posx.results.records import read_records

    folder = Path(path)
    one_run = (folder / "config.yaml").is_file()
    return as_frame(read_records(folder.parent, [folder.name]) if one_run else read_records(folder, []))
