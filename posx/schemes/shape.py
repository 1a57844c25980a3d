"""SHAPE: in training, all positions of a sequence are shifted by a random offset, so that absolute positions vary.

    positions of n tokens = k + (0 .. n − 1),  k uniform in 0 .. K,  drawn for each sequence; k = 0 in evaluation

Source: Kiyono et al. 2021, arXiv 2109.05644, section 3, with sinusoids. The authors' code draws k from 0 .. K − 1 and
counts from K in evaluation; posx counts from 0. Both ranges occur in training.
Shapes: positions [T], in training [B, T], int64.
Parameters and cost: those of the inner scheme; a learned table has K + L rows.
Pitfall: distances do not change, so there is no effect on a relative inner scheme.
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
    """``inner``: a scheme; ``shift``: K in tokens."""

    inner: Any = "sinusoidal"
    shift: int = 500


class Shape(Wrapper):
    """Shifted absolute positions."""

    Config = ShapeConfig
    outlook = (
        "Its paper reports better translations than with sinusoids for sentences longer than in training (Kiyono et "
        "al. 2021), where positions up to L + K had been seen."
    )

    # It chooses positions, so an extension cannot change them.
    def declare(self) -> Capabilities:
        inner = super().declare()
        return replace(inner, accepts=inner.accepts - {"positions", "distances"})

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.shift < 0:
            raise PosxError(f"scheme.shift={config.shift} must be at least 0.", "The paper uses scheme.shift=500.")

    @classmethod
    def inner_shape(cls, config: Any, shape: ModelShape, place: int = 0) -> ModelShape:
        return replace(shape, places=shape.context + config.shift)

    def train_positions(self, rows: int, n: int, generator: torch.Generator) -> Tensor:
        return torch.randint(self.config.shift + 1, (rows, 1), generator=generator) + torch.arange(n)

    def facts(self, case: Case) -> list[Fact]:
        shift = Fact("shift of a sequence", f"0–{self.config.shift}, drawn", "0", {"shift": self.config.shift})
        return [shift, *self.inner.facts(replace(case, places=case.places + self.config.shift))]
