"""Llama 3.1: fast pairs keep their frequency, slow pairs are divided by s, and pairs in between are blended.

    θ_k → (1 − γ_k) · θ_k / s + γ_k · θ_k        γ from 0 to 1 as rotations r_k = L·θ_k / 2π go from low to high

Source: the released code of Llama 3.1 (s = 8, L = 8192, low = 1, high = 4), as in transformers' rope type ``llama3``.
Pitfall: the blend is linear in rotations, as in YaRN's paper but not in YaRN's code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from posx.errors import PosxError
from posx.extensions.base import Target
from posx.extensions.by_parts import blend, by_turns
from posx.extensions.pi import Scaled, ScaledConfig


@dataclass
class Llama3Config(ScaledConfig):
    """``high``: rotations in L from which pairs are unchanged; ``low``: up to which they are interpolated."""

    low: float = 1.0
    high: float = 4.0


class Llama3(Scaled):
    """Llama 3.1's scaling."""

    Config = Llama3Config
    changes = "spectrum"

    @classmethod
    def check(cls, config: Any) -> None:
        super().check(config)
        if not 0 < config.low < config.high < math.inf:
            raise PosxError(
                f"low={config.low:g} must be above 0 and below high={config.high:g}.", "Llama 3.1 uses 1 and 4."
            )

    def resolved(self, target: Target) -> dict[str, Any]:
        return {**super().resolved(target), "low": self.config.low, "high": self.config.high}

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        gamma = by_turns(frequencies, target.context, self.config.low, self.config.high)
        return blend(frequencies, self.scale(target), gamma)
