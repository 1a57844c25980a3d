"""The exact commands that produced a record, and a comparison with a repeated evaluation."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from posx.config.catalog import PACKAGED, Catalog
from posx.config.compose import LITERAL, quote
from posx.config.schema import EvalConfig, RunConfig
from posx.errors import PosxError
from posx.models.build import complete, compose_run
from posx.results.records import Record
from posx.runs.bundle_runs import is_bundle
from posx.runs.directory import Run, open_run
from posx.training.finetune import compose_finetune, default_label, first_run
from posx.utils.shell import shell

SAME = 1e-4  # nats/token: float32 differs by less on another machine, or with another number of threads


@dataclass(frozen=True)
class Commands:
    """Shell commands: those that train the runs, in order, and the one that evaluates."""

    train: list[str]
    evaluate: str


def run_of(record: Record) -> Run:
    """The run whose folder holds the record."""
    assert record.path is not None
    return open_run(record.path.parent.parent)


def commands(record: Record, runs_dir: Path = Path("runs"), catalog: Catalog = PACKAGED) -> Commands:
    """The commands that produced this record. Raises PosxError if the base run of a fine-tuned run is missing."""
    run = run_of(record)
    chain = [run]
    while chain[0].config.start.run:
        chain.insert(0, first_run(chain[0]))
    flags = _flags(runs_dir, catalog)
    return Commands(
        [train_command(link, flags, catalog) for link in chain],
        evaluate_command(record, runs_dir, catalog),
    )


def evaluate_command(record: Record, runs_dir: Path = Path("runs"), catalog: Catalog = PACKAGED) -> str:
    """``posx eval`` for this cell only."""
    return shell(["posx", "eval", record.run, *eval_arguments(record), *_flags(runs_dir, catalog)])


def _flags(runs_dir: Path, catalog: Catalog) -> list[str]:
    """The flags for the runs and config directories, unless these are the defaults.

    What comes from a bundle is trained in the default directory: a bundle is not a place for runs.
    """
    return [
        *(["--runs-dir", str(runs_dir)] if runs_dir != Path("runs") and not is_bundle(runs_dir) else []),
        *catalog.flags(),
    ]


def train_command(run: Run, flags: list[str], catalog: Catalog = PACKAGED) -> str:
    """``posx train`` with one override for each setting that differs from the chosen options' defaults."""
    config = complete(run.config, catalog)  # its file may have been edited
    if config.start.run:
        first = first_run(run)
        parts = ["--from", first.name]
        default = compose_finetune(first.config, config.start.run, [], catalog)
        default_labels = ["", default_label(first.config, config)]
    else:
        options = {"scheme": config.scheme["name"], "model": config.model.name, "data": config.data.name}
        chosen = [f"{group}={name}" for group, name in options.items() if name]
        chosen += _data_path(config)
        parts, default = chosen, compose_run(chosen, catalog)
        default_labels = ["", config.scheme["name"]]
    settings, defaults = _flat(asdict(config)), _flat(asdict(default))
    for key, value in settings.items():
        section = key.partition(".")[0]
        if value == defaults.get(key) or section == "start" or key.endswith((".name", "._target_")):
            continue
        if key == "label" and value in default_labels:
            continue
        parts.append(f"{key}={'null' if value is None else value if key in LITERAL else quote(value)}")
    threads = run.meta.get("threads")
    if config.train.threads is None and threads:  # the number of threads changes the order of sums
        parts.append(f"train.threads={threads}")
    return shell(["posx", "train", "--name", run.name, *parts, *flags])


def _data_path(config: RunConfig) -> list[str]:
    return [f"data.path={config.data.path}"] if config.data.source == "text" else []


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def eval_arguments(record: Record) -> list[str]:
    """Flags and overrides of ``posx eval`` for this cell, with all settings that determine its targets."""
    config = eval_config(record)
    settings = {
        "split": config.split,
        "dtype": config.dtype,
        **(
            {
                "stride": config.stride,
                "target_context": config.target_context,
                "max_targets": config.max_targets,
                "seed": config.seed,
            }
            if record.stride is not None
            else {}
        ),
    }
    return [
        *("--length", str(record.length), "--extension", record.extension, "--protocol", record.protocol),
        *(f"eval.{key}={value}" for key, value in settings.items()),
    ]


def eval_config(record: Record) -> EvalConfig:
    """The evaluation that produces this cell."""
    default = EvalConfig()
    return EvalConfig(
        protocol=record.protocol,
        lengths=[str(record.length)],
        extensions=[record.extension],
        split=record.split,
        stride=record.stride,
        target_context=record.target_context,
        max_targets=record.max_targets if record.max_targets is not None else default.max_targets,
        seed=record.target_seed if record.target_seed is not None else default.seed,
        dtype=record.dtype,
    )


def difference(before: Record, after: Record) -> float:
    """nats/token of ``after`` minus ``before``. Raises PosxError if only one of them has a number."""
    if before.nats_per_token is None or after.nats_per_token is None:
        if before.status == after.status and before.reason == after.reason:
            return 0.0
        raise PosxError(
            f"The status changed from {before.status} ({before.reason or 'a number'}) to {after.status} "
            f"({after.reason or 'a number'}).",
            "Compare the versions in the two records.",
            code=1,
        )
    return after.nats_per_token - before.nats_per_token


def check_same(before: Record, after: Record) -> float:
    """The difference in nats/token. Raises PosxError (exit code 1) if it is larger than rounding."""
    if after.targets_sha256 != before.targets_sha256:
        raise PosxError(
            "The evaluation scored different targets than the record.",
            "Check that data.path holds the same text.",
            code=1,
        )
    gap = difference(before, after)
    if not math.isfinite(gap) or abs(gap) > SAME:
        changed = [
            f"{name} {before.versions.get(name)} → {version}"
            for name, version in after.versions.items()
            if before.versions.get(name) != version
        ]
        if before.device != after.device:
            changed.append(f"{before.device} → {after.device}")
        if before.checkpoint_sha256 != after.checkpoint_sha256:
            changed.append("different weights")
        raise PosxError(
            f"The number differs: {before.nats_per_token} nats/token in the record, {after.nats_per_token} now.",
            f"What changed: {', '.join(changed) or 'nothing that the record lists'}.",
            code=1,
        )
    return gap
