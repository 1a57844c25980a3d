"""Sinusoidal positions.

    PE(p, 2k)   = sin(p · θ_k)
    PE(p, 2k+1) = cos(p · θ_k)        θ_k = base^(−2k / width),  k = 0 .. width/2 − 1

added to the token vector (or concatenated with it, see embedding.py).

Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.5; scaling of tokens by √d_model: section 3.4.
Shapes: position vectors [T, width], float32.
Parameters: none. Cost: one table [T, width] per forward pass.
Property: PE(p + n) = M_n · PE(p), with the same rotation M_n for all p.
Pitfall: sines and cosines alternate; they are not two halves. The vectors have an RMS of 0.707, which would drown out
a token table with standard deviation 0.02, hence ``scale_tokens``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posx.errors import PosxError
from posx.schemes.base import ModelShape
from posx.schemes.embedding import EmbeddingConfig, PositionEmbedding
from posx.schemes.facts import Case, Fact, positions_fact, turning_facts


@dataclass
class SinusoidalConfig(EmbeddingConfig):
    """``base``: determines the longest wavelength, 2π · base positions."""

    scale_tokens: bool = True
    base: float = 10000.0


class Sinusoidal(PositionEmbedding):
    """A fixed vector of sines and cosines for each position; positions are unlimited."""

    Config = SinusoidalConfig
    outlook = (
        "It breaks at once: perplexity 20.05 at 512, 43.54 at 1012 and 132.4 at 2512 tokens, trained at 512 (Press et "
        "al. 2021, arXiv 2108.12409, table 2), although its paper hoped that it would extrapolate."
    )

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        super().check(config, shape)
        if not 1 < config.base < math.inf:
            raise PosxError(f"scheme.base={config.base} must be above 1.", "The paper uses scheme.base=10000.")

    def vectors(self, positions: Tensor) -> Tensor:
        angles = positions.float()[..., None] * self.waves(positions.device)
        table = torch.stack([angles.sin(), angles.cos()], dim=-1)
        return table.flatten(-2)[..., : self.width]  # with an odd width, the last entry is a sine

    def waves(self, device: torch.device | None = None) -> Tensor:
        """θ_k, float32 [width / 2]."""
        even = torch.arange(0, self.width, 2, device=device, dtype=torch.float32)
        return self.config.base ** (-even / self.width)

    def facts(self, case: Case) -> list[Fact]:
        theta = self.waves()
        return [positions_fact(case), *turning_facts(theta, theta, case.places, float(case.positions.max()))]
