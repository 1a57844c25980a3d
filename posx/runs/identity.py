"""Hashes that name groups of runs, jobs of a sweep and evaluation cells. The only module that hashes a config.

A setting that is added later is left out while it has the value that says nothing (LATER), so that old names stand.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from posx.config.schema import RunConfig
from posx.utils.files import sha256_of

# Raised when posx computes other numbers from the same settings: cells and jobs of before are then computed again.
NUMERICS = "0.3.0"

# Settings that change how fast a run is, or how it is called, but not what it computes.
# The text's own hash stands for its path.
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

# Settings that came after runs were hashed: left out where they say nothing, so that the old hashes stand.
LATER = {"train.recipe": "none", "train.reach": None}


def hashed(config: RunConfig) -> dict[str, Any]:
    """The config as hashes are made of it."""
    values = asdict(config)
    for key, silent in LATER.items():
        section, _, name = key.partition(".")
        if values[section][name] == silent:
            values[section].pop(name)
    return values


def group_hash(config: RunConfig, *also: str) -> str:
    """The same for runs that differ in their seed alone, and in the settings that are ``also`` named.

    The weights that a fine-tune started from differ with the seed; the recipe that made them does not.
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
    """The same for runs that differ in seed and training context alone: the longer is the shorter's control."""
    return group_hash(config, "train.context")


def job_hash(config: RunConfig, corpus_sha256: str, tokenizer_sha256: str) -> str:
    """What the name of a sweep's job ends in: 8 hex digits of all that changes its result, and of its label."""
    values = hashed(config)
    for key in (FREE_TO_CHANGE | {"start.weights_sha256"}) - {"label"}:
        section, _, name = key.partition(".")
        values[section].pop(name)
    return sha256_of(values, corpus_sha256, tokenizer_sha256)[:8]


def cell_key(weights_sha256: str, asked: list[Any]) -> str:
    """The stem of a record's file; ``asked``: extension, its parameters, length, hash of the targets, dtype.

    Notes are no part of it: what they say follows from the corpus and the weights, whose hashes are.
    """
    return sha256_of(weights_sha256, asked, [], NUMERICS)[:16]
