"""Evaluation of runs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posx.api.arguments import OnProgress, Overrides, check_list, check_run
from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import TABLED, EvalConfig
from posx.errors import PosxError
from posx.reporting.output import Output
from posx.results.records import Record
from posx.runs.directory import Run
from posx.utils.progress import as_display

if TYPE_CHECKING:  # for start-up time: these import torch
    from posx.evaluation.longrope_search import Search
    from posx.evaluation.plan import Plan
    from posx.extensions.base import Extension
    from posx.reporting.reproduce import Commands

    ExtensionLike = str | type[Extension] | Extension


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

    ``lengths`` are tokens (3000) or multiples of the base context ("2x"). ``extensions`` are strings such as
    "none", "pi" and "ntk+window(w=64)", classes, or instances; by default, the model is evaluated as it was trained.
    ``settings`` are fields of :class:`posx.config.schema.EvalConfig`: ``protocol="curve"``, ``max_targets=1024``;
    ``protocol="all"`` is fixed-targets, non-overlapping and stream. Several runs share their targets.

    A record holds a sum of nats over ``n_targets`` tokens; ``record.nats_per_token`` is their mean. A cell that cannot
    be computed is a record with a ``status`` and a ``reason``. Records are also written to the runs, and existing
    ones are not computed again. Raises PosxError, also if no requested cell could be computed, or if one of several
    evaluations failed; the records of the others are then in their runs.
    """
    from posx.models.python_values import as_text, extension_text

    runs = [runs] if isinstance(runs, Run) else runs
    runs = [check_run(run) for run in (runs if isinstance(runs, list | tuple) else [runs])]
    if not runs:
        raise PosxError("No run given.", "Pass what posx.train or posx.load_run returned.")
    sizes = texts = None
    if lengths is not None:
        sizes = [str(length) for length in check_list("lengths", lengths, '[3000, "2x"]')]
    if extensions is not None:
        listed = check_list("extensions", extensions, '["none", "pi"]')
        texts = [extension_text(extension, catalog) for extension in listed]
    protocol = settings.pop("protocol", None)
    overrides = [f"eval.{key}={as_text(value)}" for key, value in settings.items()]
    configs = compose_evaluations(sizes, texts, protocol, overrides, catalog)
    plans = plan_evaluations(runs, configs, catalog)
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
    """The plans for :func:`compute`, after every check that requires no computation. Raises PosxError."""
    from posx.config.lengths import comparable
    from posx.evaluation.plan import make_plan

    contexts = [run.config.base_context for run in runs]
    return [make_plan(run, comparable(config, contexts), catalog) for run in runs for config in configs]


def plan_newest(runs_dir: Path | str, configs: Sequence[EvalConfig], catalog: Catalog = PACKAGED) -> list[Plan]:
    """The plans of the newest finished run that supports every request, or of the newest. Raises PosxError."""
    from posx.runs.directory import finished_runs

    runs = finished_runs(Path(runs_dir))
    for run in runs:
        try:
            plans = plan_evaluations([run], configs, catalog)
        except PosxError:
            continue
        if all(_is_supported(plan) for plan in plans):
            return plans
    return plan_evaluations(runs[:1], configs, catalog)


def _is_supported(plan: Plan) -> bool:
    """Whether the scheme supports every requested length, with its extension."""
    from posx.analysis.extrapolation import refusal
    from posx.models.binding import bind
    from posx.models.build import scheme_of

    config = plan.run.config
    scheme = scheme_of(config, plan.catalog)
    bound = [
        (cell.length, bind(cell.extensions, scheme, cell.length, cell.trained, config.train.reached))
        for cell in plan.asked
    ]
    return not any(refusal(scheme, length, extension) for length, extension in bound)


def compute(plans: Sequence[Plan], progress: OnProgress = None, *, strict: bool = False) -> list[Record]:
    """The records of all plans, in their order.

    An evaluation that fails does not stop the others, and is a message. PosxError is raised at the end if all of
    them failed; with ``strict``, also if one of them left no records.
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


RECOMMEND_TARGETS = 1024  # enough to rank extensions
SEARCH_TARGETS = 256  # of the search, and as many held out


def recommend(
    run: Run,
    length: int | str,
    overrides: Overrides = (),
    *,
    name: str = "",
    progress: OnProgress = None,
    catalog: Catalog = PACKAGED,
) -> Output:
    """All extensions that support this run at this length, evaluated on the validation split and ranked.

    ``length`` is tokens or a multiple of the base context ("4x"). ``overrides`` are settings of the evaluation,
    "eval.max_targets=4096". ``values`` of the result are records, best first, with ``nats_per_token``, ``behind`` (nats
    behind the first), ``interval`` of that, and ``line``, the command that evaluates the extension; there the run is
    called ``name``. Raises PosxError.
    """
    from posx.evaluation import recommend as ranking
    from posx.reporting.recommend_page import page

    run = check_run(run)
    config = _selection_config(overrides, RECOMMEND_TARGETS, catalog)
    choices, records = ranking.recommend(run, name or run.name, str(length), config, as_display(progress), catalog)
    return Output([ranking.as_dict(choice) for choice in choices], [page(choices, records)])


def search_longrope(
    run: Run,
    length: int | str,
    overrides: Overrides = (),
    *,
    evaluations: int = 64,
    progress: OnProgress = None,
    catalog: Catalog = PACKAGED,
) -> Search:
    """LongRoPE factors for a run and a length, searched on the validation split. Raises PosxError.

    ``evaluations`` is the number of candidates that are scored. An interrupt ends the search early; ``stopped`` is then
    the signal. ``save_search`` writes the result.
    """
    from posx.evaluation.longrope_search import search

    config = _selection_config(overrides, SEARCH_TARGETS, catalog)
    return search(check_run(run), str(length), config, evaluations, as_display(progress), catalog)


def save_search(search: Search, path: Path | str) -> Output:
    """Write the factors as YAML, for ``longrope(factors=PATH)``; and the result as a table. Raises PosxError."""
    from posx.evaluation.longrope_search import as_dict, write
    from posx.reporting.search_page import page

    path = Path(path)
    try:
        write(path, search)
    except OSError as error:
        raise PosxError(f"{path} cannot be written: {error.strerror}.", "Choose another -o.") from None
    return Output(as_dict(search) | {"file": str(path)}, [page(search), f"Wrote {path}."])


def _selection_config(overrides: Overrides, targets: int, catalog: Catalog) -> EvalConfig:
    """The config of evaluations that select something: by default on validation, with this many targets."""
    from posx.config.compose import compose_eval, key_of
    from posx.models.python_values import as_texts

    texts = as_texts(overrides, catalog)
    keys = {key_of(text) for text in texts}
    defaults = {"eval.split": "validation", "eval.max_targets": str(targets)}
    return compose_eval([*(f"{k}={v}" for k, v in defaults.items() if k not in keys), *texts], catalog)


def reproduction_commands(record: Record, runs_dir: Path | str = "runs", catalog: Catalog = PACKAGED) -> Commands:
    """The shell commands that produced this record: ``train``, in order, and ``evaluate``. Raises PosxError."""
    from posx.reporting.reproduce import commands

    return commands(record, Path(runs_dir), catalog)


def reproduce(
    record: Record, *, from_scratch: bool = False, progress: OnProgress = None, catalog: Catalog = PACKAGED
) -> tuple[Record, float]:
    """Evaluate a record again, in a temporary folder: the new record, and the difference in nats/token.

    ``from_scratch`` trains the model again too. Raises PosxError if the result differs, or if the weights are missing.
    """
    from posx.evaluation.evaluate import evaluate_all
    from posx.evaluation.plan import make_plan
    from posx.reporting.reproduce import check_same, eval_config, run_of

    run = run_of(record)
    if run.step == 0 and not from_scratch:
        raise PosxError(
            f"The weights of {run.name} are missing; only its records are here.",
            "Add --from-scratch to train it again in a temporary folder, or run the commands above.",
        )
    display = as_display(progress)
    with tempfile.TemporaryDirectory() as scratch:
        if from_scratch:
            from posx.training.retrain import train_again

            run = train_again(run, Path(scratch) / "runs", display, catalog)
        plan = make_plan(run, eval_config(record), catalog)
        records = evaluate_all(plan, display, Path(scratch) / "eval")
    (repeated,) = (r for r in records if (r.extension, r.length) == (record.extension, record.length))
    return repeated, check_same(record, repeated)
