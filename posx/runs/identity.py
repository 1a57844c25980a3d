"""Hashes that name jobs of a sweep, groups of runs and evaluation cells. The only module that hashes a config.

A field that is added later is left out of the hash while it has its default (LATER), so that old names stay valid.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from posx.config.schema import RunConfig
from posx.utils.files import sha256_of

# Raised when posx computes different numbers from the same settings. All cells are then recomputed.
NUMERICS = "0.3.0"

# Fields that change the speed or the name of a run, but not its results.
# The corpus is identified by its hash, not by its path.
FREE_TO_CHANGE = {
    "label",
    "train.threads",
    "train.log_every",
    "train.device",
    "data.cache_dir",
    "data.path",
    "train.checkpoint_every",
    "start.run",
}

# Fields that were added after 0.1.0, with their defaults.
LATER = {"train.recipe": "none", "train.reach": None}


def hashed(config: RunConfig) -> dict[str, Any]:
    """The values of a config that are hashed: without later fields at their defaults."""
    values = asdict(config)
    for key, default in LATER.items():
        section, _, name = key.partition(".")
        if values[section][name] == default:
            values[section].pop(name)
    return values


def group_hash(config: RunConfig, *also: str) -> str:
    """A hash that is equal for runs that differ only in their seed, or in the fields ``also``.

    The weights that a fine-tune starts from depend on the seed; the recipe that produced them does not.
    """
    values = hashed(config)
    for key in ("train.seed", "start.weights_sha256", *FREE_TO_CHANGE, *also):
        *sections, last = key.split(".")
        part = values
        for section in sections:
            part = part[section]
        part.pop(last)
    return sha256_of(values)


def recipe_hash(config: RunConfig) -> str:
    """A hash that is equal for runs that differ only in seed and training context.

    The run with the longer context is the control of the other.
    """
    return group_hash(config, "train.context")


def job_hash(config: RunConfig, corpus_sha256: str, tokenizer_sha256: str) -> str:
    """The suffix of a sweep job's name: 8 hex digits of a hash of its label and all that affects its result."""
    values = hashed(config)
    for key in (FREE_TO_CHANGE | {"start.weights_sha256"}) - {"label"}:
        section, _, name = key.partition(".")
        values[section].pop(name)
    return sha256_of(values, corpus_sha256, tokenizer_sha256)[:8]


def cell_key(weights_sha256: str, cell: list[Any]) -> str:
    """The stem of a record's file name; ``cell``: extension, its parameters, length, hash of the targets, dtype.

    Notes are not included: they follow from the corpus and the weights, whose hashes are.
    """
    return sha256_of(weights_sha256, cell, [], NUMERICS)[:16]
