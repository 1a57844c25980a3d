"""A sweep file: what it may say, and what is wrong with it.

schemes:                       # each a scheme, or one with overrides and a label
  - alibi
  - {scheme: rope, label: rope-500k, overrides: [scheme.base=500000]}
seeds: [0, 1, 2]
overrides: [model=tiny, train.steps=500, eval.max_targets=2048]    # for all; eval.* goes to the evaluation
lengths: [1x, 2x, 4x]
extensions: {rope: [none, pi, ntk]}    # by label or scheme; none where nothing is said
controls: [4x]                 # each row also trained from scratch at 4x, with the same tokens: what is there to gain
control_seeds: [0, 1]          # of those; all seeds if left out
protocols: [fixed-targets]     # and non-overlapping, stream, curve
finetune:                      # each row trained on for so many steps, at a longer context
  context: 4x
  steps: [50, 200, 1000]
  extensions: {rope: [none, pi, ntk]}
  # As extensions: pose reaches that context from the old one, with those that go by position; drop stays there.
  recipes: {rope: [none, pose, drop]}
  control: true                # and once without, at the old context with the same extra tokens
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

# Settings that a sweep file gives in fields of its own.
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

    context: str = ""  # tokens, or a multiple of the base context; empty: there is no fine-tune
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
    """A sweep file by path, or by name among the configs."""
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
    """The file and its rows, which go together with what was typed. Raises PosxError."""
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
    for row in [*file.extensions, *file.finetune.extensions, *file.finetune.recipes]:
        if row not in rows:
            what = "recipes" if row in file.finetune.recipes else "extensions"
            raise unknown("row", row, rows, f" in {path} for the {what}")
    _check_overrides([*file.overrides, *overrides, *(o for entry in entries for o in entry.overrides)], path)
    _check_overrides(file.finetune.overrides, path)
    for seed in set(file.control_seeds) - set(file.seeds):
        raise PosxError(f"{path}: control_seeds names {seed}, which is not among the seeds.", "Add it to seeds.")
    if bool(file.finetune.context) != bool(file.finetune.steps):
        raise PosxError(f"{path}: finetune wants a context and steps.", "Write context: 4x and steps: [50, 200].")
    return file, entries


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
