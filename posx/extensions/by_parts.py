"""NTK by parts: fast pairs keep their frequency, slow pairs are interpolated, and pairs in between are blended.

    θ_k → (1 − γ_k) · θ_k / s + γ_k · θ_k

    ramp=code    γ falls linearly from 1 to 0 with the index k of the pair, from ⌊k(32)⌋ to ⌈k(1)⌉, where k(n) is the
                 pair that makes n rotations in L tokens:  k(n) = R ln(L / 2πn) / 2 ln b
    ramp=paper   γ rises linearly from 0 to 1 with the number of rotations r_k = L·θ_k / 2π, from 1 to 32

Source: Peng et al. 2023, arXiv 2309.00071, section 3.2, definition 2; ``code`` as in the released code and in
transformers.
Pitfall: the two ramps differ by 67% to 133% on some pair at L = 256 to 2048. Below L = 201, the paper's ramp never
reaches 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posx.errors import PosxError
from posx.extensions.base import Target
from posx.extensions.pi import Scaled, ScaledConfig


@dataclass
class ByPartsConfig(ScaledConfig):
    """``ramp``: code or paper; ``fast``: rotations in L from which θ is unchanged; ``slow``: up to which scaled."""

    ramp: str = "code"
    fast: float = 32.0
    slow: float = 1.0


class ByParts(Scaled):
    """Scales each pair by its number of rotations in training."""

    Config = ByPartsConfig
    changes = "spectrum"

    @classmethod
    def check(cls, config: Any) -> None:
        super().check(config)
        if config.ramp not in ("code", "paper"):
            raise PosxError(f"ramp='{config.ramp}' is not a valid choice.", "Use ramp=code or paper.")
        if not 0 < config.slow < config.fast < math.inf:
            raise PosxError(
                f"slow={config.slow:g} must be above 0 and below fast={config.fast:g}.", "The paper uses 1 and 32."
            )

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return [{}, {"s": round(2 * target.scale, 4)}]

    def resolved(self, target: Target) -> dict[str, Any]:
        return {
            **super().resolved(target),
            "ramp": self.config.ramp,
            "fast": self.config.fast,
            "slow": self.config.slow,
        }

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        ramp = by_turns if self.config.ramp == "paper" else by_number
        return blend(
            frequencies, self.scale(target), ramp(frequencies, target.context, self.config.slow, self.config.fast)
        )


def blend(frequencies: Tensor, s: float, gamma: Tensor) -> Tensor:
    """(1 − γ)·θ / s + γ·θ; θ unchanged, to the bit, if s is 1."""
    return frequencies if s == 1 else frequencies / s * (1 - gamma) + frequencies * gamma


def by_turns(frequencies: Tensor, context: int, slow: float, fast: float) -> Tensor:
    """γ_k [R/2], linear in the number of rotations in L from ``slow`` to ``fast``."""
    turns = context * frequencies / (2 * math.pi)
    return ((turns - slow) / (fast - slow)).clamp(0, 1)


def by_number(frequencies: Tensor, context: int, slow: float, fast: float) -> Tensor:
    """γ_k [R/2], linear in the index k between the pairs with ``fast`` and ``slow`` rotations in L."""
    pairs = int((frequencies > 0).sum())
    if pairs < 2:
        return torch.ones_like(frequencies)
    # 2 ln b / R for any b: θ_k = θ_0 · e^(−k · by_pair). θ_0 is 1 unless the model was trained with another value.
    highest, lowest = float(frequencies[0]), float(frequencies[pairs - 1])
    by_pair = (math.log(highest) - math.log(lowest)) / (pairs - 1)
    first, end = (math.log(context * highest / (2 * math.pi * turns)) / by_pair for turns in (fast, slow))
    first, end = max(0, math.floor(first)), min(2 * len(frequencies) - 1, math.ceil(end))
    k = torch.arange(len(frequencies), device=frequencies.device, dtype=torch.float32)
    return 1 - ((k - first) / max(end - first, 0.001)).clamp(0, 1)
