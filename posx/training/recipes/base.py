"""The interface of a fine-tuning recipe, and the recipe ``none``."""

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
    """The positions of the tokens of a batch.

    ``positions`` int64 [rows, n], or None for 0 .. n − 1. ``unbroken`` int64 [rows]: the number of first tokens of each
    window that are contiguous in the text; the others begin further on. None: all are contiguous.
    """

    positions: Tensor | None
    unbroken: np.ndarray | None = None


class Recipe:
    """The recipe ``none``, which changes nothing, and the base class of the others."""

    name = "none"
    uses_reach = False  # whether the recipe uses train.reach
    repeats = True  # whether a further fine-tune of such a model keeps the recipe

    def prepare(self, config: RunConfig, scheme: Scheme, extensions: list[Extension], catalog: Catalog) -> RunConfig:
        """The config of a fine-tune with the recipe's changes. Raises PosxError if the recipe does not support it.

        ``scheme`` and ``extensions`` are those of the config.
        """
        return config

    def draw(self, scheme: Scheme, train: TrainConfig, rows: int, generator: torch.Generator) -> Drawn:
        """The positions of a batch of ``rows`` windows, a function of the generator's state."""
        return Drawn(scheme.train_positions(rows, train.context, generator))

    def label(self, first: str, tuning: str, train: TrainConfig) -> str:
        """The label in tables."""
        return f"{first} + {tuning}"

    def settings(self, base_context: int, context: Any) -> dict[str, Any]:
        """The settings by key with which a sweep fine-tunes a model from ``base_context`` to ``context``."""
        return {"train.context": context}

    def usable(self, extensions: list[str], parse: Callable[[str], list[Extension]]) -> list[str]:
        """Those of these extensions, parsed by ``parse``, that a sweep trains with."""
        return extensions
