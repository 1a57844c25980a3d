"""Sweep files: their fields and checks.

schemes:                       # each a scheme, or one with overrides and a label
  - alibi
  - {scheme: rope, label: rope-500k, overrides: [scheme.base=500000]}
seeds: [0, 1, 2]
overrides: [model=tiny, train.steps=500, eval.max_targets=2048]    # for all; eval.* goes to the evaluation
lengths: [1x, 2x, 4x]
extensions: {rope: [none, pi, ntk]}    # by label or scheme; default: none
controls: [4x]                 # each row is also trained from scratch at 4x, with the same tokens: the attainable gain
control_seeds: [0, 1]          # seeds of the controls; default: all seeds
protocols: [fixed-targets]     # and non-overlapping, stream, curve
finetune:                      # each row is trained for this many more steps at a longer context
  context: 4x
  steps: [50, 200, 1000]
  extensions: {rope: [none, pi, ntk]}
  # By label or scheme, as extensions. pose simulates that context in windows of the old one; drop keeps the old one.
  recipes: {rope: [none, pose, drop]}
  control: true                # also fine-tune at the old context, with the same extra tokens
  overrides: [optim.lr=1e-3]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posx.config.catalog import Catalog, read_yaml
from posx.config.compose import key_of
from posx.config.schema import Protocol
from posx.config.validate import typed
from posx.errors import PosxError, unknown

# Settings that have their own field in a sweep file.
OWN_FIELDS = {
    "scheme": "schemes",
    "label": "schemes",
    "train.seed": "seeds",
    "train.recipe": "finetune.recipes",
    "train.reach": "finetune.context",
    "eval.extensions": "extensions",
}


@dataclass
class FinetuneConfig:
    """The section ``finetune`` of a sweep file."""

    context: str = ""  # tokens, or a multiple of the base context; empty: no fine-tuning
    steps: list[int] = field(default_factory=list)
    extensions: dict[str, list[str]] = field(default_factory=dict)
    recipes: dict[str, list[str]] = field(default_factory=dict)
    control: bool = True
    overrides: list[str] = field(default_factory=list)


@dataclass
class SweepConfig:
    """A sweep file."""

    schemes: list[Any] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    overrides: list[str] = field(default_factory=list)
    lengths: list[str] = field(default_factory=lambda: ["1x", "2x", "4x"])
    extensions: dict[str, list[str]] = field(default_factory=dict)
    controls: list[str] = field(default_factory=list)
    control_seeds: list[int] = field(default_factory=list)
    protocols: list[Protocol] = field(default_factory=lambda: ["fixed-targets"])
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    description: str = ""


@dataclass
class SchemeEntry:
    """One row of ``schemes``."""

    scheme: str = ""
    label: str = ""
    overrides: list[str] = field(default_factory=list)


def find_sweep(text: str, catalog: Catalog) -> Path:
    """The path of a sweep file, given as a path or as the name of a packaged one. Raises PosxError."""
    if Path(text).is_file():
        return Path(text)
    if Path(text).is_dir():
        raise PosxError(f"{text} is a directory, not a sweep file.", "Name the file itself.")
    known = catalog.options("sweep")
    if text in known:
        return known[text]
    if Path(text).suffix in (".yaml", ".yml"):
        raise PosxError(
            f"There is no sweep file {text}.", f"Check the path, or use one of: {', '.join(sorted(known))}."
        )
    raise unknown("sweep", text, known)


def read_sweep_file(path: Path, overrides: list[str]) -> tuple[SweepConfig, list[SchemeEntry]]:
    """The file and its rows, checked against the overrides of the command line. Raises PosxError."""
    file = typed(SweepConfig, read_yaml(path, "sweep file"), source=f" in {path}")
    for key in ("schemes", "seeds", "lengths"):
        if not getattr(file, key):
            raise PosxError(f"{path} has no {key}.", "See configs/sweep/quick.yaml.")
    entries = [_entry(item, path) for item in file.schemes]
    named: dict[str, list[Any]] = {"label": [entry.label for entry in entries], "seed": list(file.seeds)}
    for what, values in named.items():
        for value in values:
            if values.count(value) > 1:
                raise PosxError(f"{path} uses the {what} {value} twice.", f"Give each a unique {what}.")
    rows = {entry.label for entry in entries} | {entry.scheme for entry in entries}
    for row in [*file.extensions, *file.finetune.extensions, *file.finetune.recipes]:
        if row not in rows:
            what = "recipes" if row in file.finetune.recipes else "extensions"
            raise unknown("row", row, rows, f" in {path} for the {what}")
    _check_overrides([*file.overrides, *overrides, *(o for entry in entries for o in entry.overrides)], path)
    _check_overrides(file.finetune.overrides, path)
    for seed in set(file.control_seeds) - set(file.seeds):
        raise PosxError(f"{path}: control_seeds has {seed}, which is not one of seeds.", "Add it to seeds.")
    if bool(file.finetune.context) != bool(file.finetune.steps):
        raise PosxError(f"{path}: finetune requires a context and steps.", "Write context: 4x and steps: [50, 200].")
    return file, entries


def _check_overrides(overrides: list[Any], path: Path) -> None:
    """Raise PosxError if an override is not a text, or sets what has its own field in the file."""
    for override in overrides:
        if not isinstance(override, str) or "=" not in override:
            raise PosxError(f"{path}: '{override}' is not an override.", "Write them like train.steps=100.")
        if key_of(override) in OWN_FIELDS:
            field_name = OWN_FIELDS[key_of(override)]
            raise PosxError(f"{override} contradicts {path}.", f"Change its field '{field_name}' instead.")


def _entry(item: Any, path: Path) -> SchemeEntry:
    entry = typed(SchemeEntry, {"scheme": item} if isinstance(item, str) else item, source=f" in {path}, under schemes")
    if not entry.scheme:
        raise PosxError(
            f"{path}: a row of schemes has no scheme: {item}.",
            "Write - rope, or - {scheme: rope, label: …}.",
        )
    entry.label = entry.label or entry.scheme
    return entry
