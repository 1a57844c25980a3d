"""SHAPE: all positions of a sequence shifted by a random number in training: a model learns not to count from 0.

    positions of n tokens = k + (0 .. n − 1),  k uniform in 0 .. K,  drawn anew for each sequence; k = 0 in evaluation

Source: Kiyono et al. 2021, arXiv 2109.05644, section 3, over sinusoids. The authors' code draws k from 0 .. K − 1, and
in evaluation counts from K, where this counts from 0: both were seen in training.
Shapes: positions [T], in training [B, T], int64.
Parameters and cost: the inner scheme's; a learned table has K + L rows.
Trap: no distance grows: a relative scheme inside notices nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from posx.errors import PosxError
from posx.schemes.base import Capabilities, ModelShape
from posx.schemes.facts import Case, Fact
from posx.schemes.wrapper import Wrapper


@dataclass
class ShapeConfig:
    """``inner`` scheme; ``shift``: K in tokens."""

    inner: Any = "sinusoidal"
    shift: int = 500


class Shape(Wrapper):
    """Shifted absolute positions."""

    Config = ShapeConfig
    outlook = (
        "Its paper reports better translations than with sinusoids for sentences longer than in training (Kiyono et "
        "al. 2021), where positions up to L + K had been seen."
    )

    # Positions are its own to choose: none is left to interpolate.
    def declare(self) -> Capabilities:
        plain = super().declare()
        return replace(plain, accepts=plain.accepts - {"positions", "distances"})

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.shift < 0:
            raise PosxError(f"scheme.shift={config.shift} is below 0.", "The paper uses scheme.shift=500.")

    @classmethod
    def inner_shape(cls, config: Any, shape: ModelShape, place: int = 0) -> ModelShape:
        return replace(shape, places=shape.context + config.shift)

    def train_positions(self, rows: int, n: int, generator: torch.Generator) -> Tensor:
        return torch.randint(self.config.shift + 1, (rows, 1), generator=generator) + torch.arange(n)

    def facts(self, case: Case) -> list[Fact]:
        own = Fact("shift of a sequence", f"0–{self.config.shift}, drawn", "0", {"shift": self.config.shift})
        return [own, *self.inner.facts(replace(case, places=case.places + self.config.shift))]
