"""Fine-tuning: a run that starts from the weights of another, often at a longer context and with an extension.

Model, scheme, tokenizer and text are those of the first run; ``train.*`` and ``optim.*`` may differ, and a recipe
(recipes.py) leaves out the scheme. What the second run stores of the first stands in ``start`` of its config. Imports
no torch.
"""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posx.config.catalog import PACKAGED, Catalog
from posx.config.compose import as_overrides, key_of, override_value
from posx.config.lengths import parse_length
from posx.config.schema import RunConfig, StartConfig
from posx.config.validate import check_train, typed
from posx.errors import PosxError
from posx.models.build import complete, freeze_extension
from posx.runs.directory import Run, folder_name, label_of, newest_checkpoint, open_run
from posx.runs.identity import group_hash
from posx.utils.files import read_json, sha256_of

LONGEST_EXTENSION = 60  # signs of a run's name
SHARE_OF_STEPS = 10  # without train.steps: a tenth of what the first run took


def compose_finetune(config: RunConfig, run: str, overrides: list[str], catalog: Catalog = PACKAGED) -> RunConfig:
    """The config of a fine-tune of the run ``run`` with ``config``; its weights are filled in by :func:`with_weights`.

    Where nothing else is said, the peak of the learning rate is where the first run's ended, the steps are a tenth of
    its own, and the extension and the reach that it was trained with stay. Raises PosxError.
    """
    from posx.training.recipes import prepared

    config = complete(config, catalog)
    values = asdict(config)
    values["train"] |= {"steps": max(1, config.train.steps // SHARE_OF_STEPS), "eval_every": None}
    values["optim"] |= {"lr": config.optim.lr * config.optim.final_lr or config.optim.lr, "warmup_steps": None}
    if config.train.recipe == "drop":  # which is done
        values["train"]["recipe"] = "none"
    values["label"] = ""
    values["start"] = asdict(
        StartConfig(
            run=run,
            recipe_sha256=group_hash(config),
            base_context=config.base_context,
            step=config.start.step + config.train.steps,
        )
    )
    for override in as_overrides([], overrides):
        _set(values, override, config)
    tuned = typed(RunConfig, values)
    if tuned.train.recipe != "pose" and "train.reach" not in map(key_of, overrides):  # it was the first run's
        tuned.train.reach = None
    tuned.label = tuned.label or default_label(config, tuned)
    check_train(tuned)
    return freeze_extension(prepared(tuned, catalog), catalog)


def _set(values: dict[str, Any], override: str, config: RunConfig) -> None:
    key, _, text = override.lstrip("+").partition("=")
    section, _, name = key.partition(".")
    if key == "label":
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
        values["label"] = text[1:-1] if quoted else text
        return
    if section not in ("train", "optim") or not name:
        if key == "scheme" and text == config.scheme["name"]:
            return
        raise PosxError(
            f"{override} cannot change in a fine-tune: model, scheme, tokenizer and text are those of the weights.",
            "train.* and optim.* can; for the rest train a run from scratch.",
        )
    if key in ("train.context", "train.reach") and text.endswith("x"):
        values["train"][name] = parse_length(text, config.base_context)
        return
    values[section][name] = override_value(override)


def default_label(config: RunConfig, tuned: RunConfig) -> str:
    """The row in tables: ``rope + 200 steps at 256``; what it is trained with stands in the column beside.

    With a recipe ``rope, dropped + 200 steps at 64`` or ``rope + 200 steps at 64, pose to 256``.
    """
    first = f"{label_of(config)}, dropped" if tuned.train.recipe == "drop" else label_of(config)
    skips = f", pose to {tuned.train.reach}" if tuned.train.recipe == "pose" else ""
    return f"{first} + {tuned.train.steps} steps at {tuned.train.context}{skips}"


def default_name(config: RunConfig) -> str:
    """``rope-64-seed0-pi-256-200steps`` for a fine-tune of a run ``rope-64-seed0``; ``-pi-pose256-64-`` with pose."""
    text = "" if config.train.extension == "none" else folder_name(config.train.extension, "extended").rstrip("-")
    if len(text) > LONGEST_EXTENSION:  # as with a factor for each frequency
        text = f"{text[:LONGEST_EXTENSION]}-{sha256_of(config.train.extension)[:6]}"
    extension = text and f"-{text}"
    recipe = "" if config.train.recipe == "none" else f"-{config.train.recipe}{config.train.reach or ''}"
    return f"{Path(config.start.run).name}{extension}{recipe}-{config.train.context}-{config.train.steps}steps"[:140]


def with_weights(config: RunConfig, first: Run) -> RunConfig:
    """The config with the hash of the weights that ``first`` has now. Raises PosxError where it is unfinished."""
    if not first.finished:
        raise PosxError(
            f"{first.name} is not finished: step {first.step} of {first.config.train.steps}.",
            f"Finish it first: posx train --resume --name {first.name} with its overrides.",
        )
    config = copy.deepcopy(config)
    _, found = newest_checkpoint(first.checkpoints)
    assert found is not None
    manifest = read_json(found / "manifest.json", "a checkpoint of posx")
    config.start.weights_sha256 = manifest["model.safetensors"]["sha256"]
    return config


def first_run(run: Run) -> Run:
    """The run that a fine-tune starts from: beside it under the stored name, or at the stored path."""
    stored = run.config.start.run
    for path in (run.path.parent / stored, Path(stored)):
        if (path / "config.yaml").is_file():
            return open_run(path)
    raise PosxError(
        f"{run.name} starts from the weights of {stored}, which is no longer there.",
        f"Put that run back beside {run.path}.",
    )
