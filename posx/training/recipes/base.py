"""What a recipe of a fine-tune is, and what training does without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posx.config.catalog import Catalog
from posx.config.schema import RunConfig, TrainConfig
from posx.extensions.base import Extension
from posx.schemes.base import Scheme


@dataclass(frozen=True)
class Drawn:
    """Where the tokens of a batch stand.

    ``positions`` int64 [rows, n], or None for 0 .. n − 1. ``unbroken`` int64 [rows]: so many tokens of each window
    follow each other in the text, the others begin further on; None: all of them.
    """

    positions: Tensor | None
    unbroken: np.ndarray | None = None


class Recipe:
    """Training as the config says: the recipe ``none``, and what a recipe does where it says nothing else."""

    name = "none"
    uses_reach = False  # whether train.reach is one of its settings
    repeats = True  # whether a fine-tune of a model that was trained with it goes on with it

    def prepare(self, config: RunConfig, scheme: Scheme, extensions: list[Extension], catalog: Catalog) -> RunConfig:
        """The config of a fine-tune, with what the recipe changes. Raises PosxError where it does not fit.

        ``scheme`` and ``extensions`` are those that the config names.
        """
        return config

    def draw(self, scheme: Scheme, train: TrainConfig, rows: int, generator: torch.Generator) -> Drawn:
        """The positions of a batch of ``rows`` windows: a function of the generator's state."""
        return Drawn(scheme.train_positions(rows, train.context, generator))

    def label(self, first: str, tuning: str, train: TrainConfig) -> str:
        """The row in tables: what was tuned, and how."""
        return f"{first} + {tuning}"

    def settings(self, base_context: int, context: Any) -> dict[str, Any]:
        """The settings with which a sweep takes a model from ``base_context`` to ``context``, by their key."""
        return {"train.context": context}

    def usable(self, extensions: list[str], parse: Callable[[str], list[Extension]]) -> list[str]:
        """Which of these, read by ``parse``, a sweep trains with."""
        return extensions
