"""Configs of runs, training and fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posx.api.arguments import OnProgress, Overrides, check_path, check_run, describe
from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import RunConfig
from posx.errors import PosxError
from posx.runs.directory import Run
from posx.utils.progress import as_display

if TYPE_CHECKING:  # for start-up time: these import torch
    from posx.data.corpus import Corpus
    from posx.schemes.base import Scheme


def compose(
    overrides: Overrides = (),
    *,
    scheme: str | type[Scheme] | None = None,
    settings: Mapping[str, Any] | None = None,
    catalog: Catalog = PACKAGED,
) -> RunConfig:
    """The config of a training run, complete and checked.

    ``overrides`` are those of the command line, ``["train.steps=100"]``, or a mapping, ``{"train.steps": 100}``.
    ``scheme`` is a name, or a class, which needs no YAML; ``settings`` are those of the scheme, ``{"base": 500}``.
    In a mapping the value of ``train.extension`` can be a class or an instance too. Raises PosxError.
    """
    from posx.config.compose import as_overrides, compose_settings, key_of
    from posx.models.build import complete, compose_run, freeze_extension
    from posx.models.python_values import as_text, as_texts, scheme_config

    texts = as_texts(overrides, catalog)
    if settings is not None and not isinstance(settings, Mapping):
        raise PosxError(f"settings must be a mapping, not {describe(settings)}.", 'Example: settings={"base": 500}.')
    if scheme is not None and not isinstance(scheme, str | type):
        raise PosxError(f"scheme must be a name or a class, not {describe(scheme)}.", "posx schemes lists the names.")
    if not isinstance(scheme, type):
        texts += [f"scheme.{key}={as_text(value)}" for key, value in (settings or {}).items()]
        return compose_run(as_overrides([("scheme", "scheme", scheme)], texts), catalog)
    for text in texts:
        if key_of(text).split(".")[0] == "scheme":
            raise PosxError(
                f"{text} was given together with the class {scheme.__qualname__}.",
                "Give the settings of a class in settings, without overrides.",
            )
    config = compose_settings(as_overrides([], texts), catalog)
    config.scheme = {**(settings or {}), **scheme_config(scheme, catalog)}
    return freeze_extension(complete(config, catalog), catalog)


def compose_finetune(
    run: Run, changes: Overrides = (), *, runs_dir: Path | str | None = None, catalog: Catalog = PACKAGED
) -> RunConfig:
    """The config of a fine-tune of a finished run: its own, with ``changes`` in ``train.*``, ``optim.*`` and ``label``.

    Contexts can be multiples of the base context: ``{"train.context": "4x", "train.extension": "pi"}``. Without
    changes it trains for a tenth of the run's steps. ``runs_dir`` is where the fine-tune will be stored (default: the
    directory of the run). Raises PosxError.
    """
    from posx.models.python_values import as_texts
    from posx.training import finetune as tuning

    run = check_run(run)
    folder = run.path.parent if runs_dir is None else check_path(runs_dir)
    beside = run.path.resolve().parent == folder.resolve()
    stored = run.name if beside else str(run.path.resolve())
    return tuning.with_weights(tuning.compose_finetune(run.config, stored, as_texts(changes, catalog), catalog), run)


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
    With ``resume`` a run that exists there is continued; without, it is an error. Raises PosxError, also if a
    signal interrupts training, which writes a checkpoint first.
    """
    from posx.data.corpus import prepare
    from posx.runs import directory
    from posx.training import loop

    config = _checked(config, catalog)
    path = default_path(config, resume=resume) if path is None else check_path(path)
    display = as_display(progress)
    directory.check_name(path.name)
    if not resume and (path.is_file() or (path.is_dir() and any(path.iterdir()))):
        directory.create(path.parent, path.name, config, False)  # raises, before the corpus is built
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

    ``changes`` are those of :func:`compose_finetune`, or the config that it returned. The new run is stored next to
    the first one, unless ``path`` is given. :func:`train` with ``resume`` continues one. Raises PosxError.
    """
    run = check_run(run)
    folder = run.path.parent if path is None else check_path(path).parent
    if not isinstance(changes, RunConfig):
        changes = compose_finetune(run, changes, runs_dir=folder, catalog=catalog)
    elif not changes.start.run:
        raise PosxError(
            "This config does not start from the weights of a run.", "Compose it: posx.compose_finetune(run, …)."
        )
    path = default_path(changes, folder) if path is None else path
    return train(changes, path, progress=progress, catalog=catalog)


def estimate(config: RunConfig, *, progress: OnProgress = None, catalog: Catalog = PACKAGED) -> dict[str, Any]:
    """The time, memory and disk that a run requires, from a few timed steps. Writes no run. Raises PosxError.

    The keys are those of :func:`posx.training.estimate.estimate`.
    """
    from posx.data.corpus import prepare
    from posx.training import estimate as estimates

    corpus = prepare(config.data, config.tokenizer, as_display(progress).say)
    return estimates.estimate(config, corpus, catalog)


def default_path(config: RunConfig, runs_dir: Path | str = "runs", *, resume: bool = False) -> Path:
    """The directory of a run without a name: an unused one, or with ``resume`` the one to continue."""
    from posx.runs import directory
    from posx.training import finetune as tuning

    name = tuning.default_name(config) if config.start.run else directory.default_name(config)
    return Path(runs_dir) / (name if resume else directory.free_name(Path(runs_dir), name))


def run_path(config: RunConfig, runs_dir: Path | str, name: str | None = None, *, resume: bool = False) -> Path:
    """The directory of the run with this name, or of :func:`default_path` without one. Raises PosxError."""
    from posx.runs.directory import check_name

    if name is None:
        return default_path(config, runs_dir, resume=resume)
    check_name(name)
    return Path(runs_dir) / name


def _checked(config: RunConfig, catalog: Catalog) -> RunConfig:
    """A copy, checked as if it had just been composed: its fields may have been changed since."""
    from posx.config.validate import check_train, typed
    from posx.models.build import complete, freeze_extension

    if not isinstance(config, RunConfig):
        raise PosxError(f"Expected a RunConfig, not {describe(config)}.", "Compose one: posx.compose(overrides).")
    config = typed(RunConfig, asdict(config))
    check_train(config)
    return freeze_extension(complete(config, catalog), catalog)


def _check_before_writing(config: RunConfig, corpus: Corpus) -> None:
    """The checks that are possible before a run directory is created. Raises PosxError."""
    from posx.data.sampling import check_long_enough
    from posx.runtime import device as devices

    check_long_enough(corpus, config.train.context)
    devices.pick_device(config.train.device)
