"""Fine-tuning: a run that starts from the weights of another run, often at a longer context and with an extension.

Model, scheme, tokenizer and corpus are those of the first run. ``train.*`` and ``optim.*`` may differ, and a recipe
(``train.recipe``) may change positions or remove the scheme. ``start`` in the config describes the first run.
"""

from __future__ import annotations

import copy
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from posx.config.catalog import PACKAGED, Catalog
from posx.config.compose import as_overrides, override_value
from posx.config.lengths import parse_length
from posx.config.schema import RunConfig, StartConfig
from posx.config.validate import check_train, typed
from posx.errors import PosxError
from posx.models.binding import Parse, parse_extension
from posx.models.build import complete, freeze_extension, scheme_of
from posx.runs.bundle_runs import check_has_weights
from posx.runs.directory import Run, folder_name, is_run, label_of, newest_checkpoint, open_run
from posx.runs.identity import group_hash
from posx.training.recipes import find_recipe
from posx.utils.files import read_json, sha256_of

LONGEST_EXTENSION = 60  # characters in a run's name
SHARE_OF_STEPS = 10  # without train.steps: a tenth of the first run's steps


def compose_finetune(config: RunConfig, run: str, overrides: list[str], catalog: Catalog = PACKAGED) -> RunConfig:
    """The config of a fine-tune of the run ``run`` with ``config``; its weights are filled in by :func:`with_weights`.

    Defaults: the peak learning rate is the final one of the first run, the number of steps is a tenth of the first
    run's, and its extension and reach are kept. Raises PosxError.
    """
    config = complete(config, catalog)
    changed = changes(config, as_overrides([], overrides))
    return finetune(config, run, changed, catalog, partial(parse_extension, catalog=catalog))


def changes(config: RunConfig, overrides: list[str]) -> dict[str, Any]:
    """Overrides of a fine-tune of ``config`` as values by their key. Raises PosxError."""
    values: dict[str, Any] = {}
    for override in overrides:
        key, _, text = override.lstrip("+").partition("=")
        section, _, name = key.partition(".")
        if key == "label":
            quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
            values[key] = text[1:-1] if quoted else text
        elif section in ("train", "optim") and name:
            multiple = key in ("train.context", "train.reach") and text.endswith("x")
            values[key] = parse_length(text, config.base_context) if multiple else override_value(override)
        elif key != "scheme" or text != config.scheme["name"]:
            raise PosxError(
                f"{override} cannot change in a fine-tune, which keeps the model, scheme, tokenizer and corpus.",
                "Change train.* or optim.* only, or train a run from scratch.",
            )
    return values


def finetune(config: RunConfig, run: str, changed: dict[str, Any], catalog: Catalog, parse: Parse) -> RunConfig:
    """The config of a fine-tune, from a complete config and the changes by key: ``train.*``, ``optim.*``, ``label``."""
    values = asdict(config)
    values["train"] |= {"steps": max(1, config.train.steps // SHARE_OF_STEPS), "eval_every": None}
    values["optim"] |= {"lr": config.optim.lr * config.optim.final_lr or config.optim.lr, "warmup_steps": None}
    if not find_recipe(config.train.recipe).repeats:
        values["train"]["recipe"] = "none"
    values["start"] = asdict(
        StartConfig(
            run=run,
            recipe_sha256=group_hash(config),
            base_context=config.base_context,
            step=config.start.step + config.train.steps,
        )
    )
    values["label"] = ""
    for key, value in changed.items():
        section, _, name = key.partition(".")
        (values[section] if name else values)[name or key] = value
    tuned = typed(RunConfig, values)
    recipe = find_recipe(tuned.train.recipe)
    if not recipe.uses_reach and "train.reach" not in changed:  # it belonged to the first run
        tuned.train.reach = None
    tuned.label = tuned.label or default_label(config, tuned)
    check_train(tuned)
    extensions = parse(tuned.train.extension)
    tuned = recipe.prepare(tuned, scheme_of(tuned, catalog), extensions, catalog)
    return freeze_extension(tuned, catalog, parse)


def default_label(config: RunConfig, tuned: RunConfig) -> str:
    """The label in tables: ``rope + 200 steps at 256``; the extension of the training has its own column.

    With a recipe ``rope, dropped + 200 steps at 64`` or ``rope + 200 steps at 64, pose to 256``.
    """
    tuning = f"{tuned.train.steps} steps at {tuned.train.context}"
    return find_recipe(tuned.train.recipe).label(label_of(config), tuning, tuned.train)


def default_name(config: RunConfig) -> str:
    """``rope-64-seed0-pi-256-200steps`` for a fine-tune of a run ``rope-64-seed0``; ``-pi-pose256-64-`` with pose."""
    text = "" if config.train.extension == "none" else folder_name(config.train.extension, "extended").rstrip("-")
    if len(text) > LONGEST_EXTENSION:  # as longrope's, with a factor for each frequency
        text = f"{text[:LONGEST_EXTENSION]}-{sha256_of(config.train.extension)[:6]}"
    extension = text and f"-{text}"
    recipe = "" if config.train.recipe == "none" else f"-{config.train.recipe}{config.train.reach or ''}"
    return f"{Path(config.start.run).name}{extension}{recipe}-{config.train.context}-{config.train.steps}steps"[:140]


def with_weights(config: RunConfig, first: Run) -> RunConfig:
    """The config with the hash of the current weights of ``first``. Raises PosxError if that run is unfinished."""
    check_has_weights(first.path)
    if not first.finished:
        raise PosxError(
            f"{first.name} is not finished: step {first.step} of {first.config.train.steps}.",
            f"Finish it first: posx train --resume --name {first.name} with its overrides.",
        )
    config = copy.deepcopy(config)
    _, found = newest_checkpoint(first.checkpoints)
    assert found is not None
    manifest = read_json(found / "manifest.json", "a posx checkpoint")
    config.start.weights_sha256 = manifest["model.safetensors"]["sha256"]
    return config


def first_run(run: Run) -> Run:
    """The run that a fine-tune starts from: in the same folder by its stored name, or at its stored path."""
    stored = run.config.start.run
    for path in (run.path.parent / stored, Path(stored)):
        if is_run(path):
            return open_run(path)
    raise PosxError(
        f"{run.name} starts from the weights of {stored}, which is missing.",
        f"Restore that run next to {run.path}.",
    )
