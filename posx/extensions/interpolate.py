"""Interpolated position vectors: ℓ positions are spread over those that were trained.

    learned:     p → p · (L − 1) / (ℓ − 1)   where ℓ > L; between two rows, their weighted mean
    sinusoidal:  p → p / s                   s = max(1, ℓ / L)

Source: the practice of Vision Transformers at a higher resolution (Dosovitskiy et al. 2020, arXiv 2010.11929,
section 3.2), in one dimension; the same as torch's ``interpolate(mode="linear", align_corners=True)``.
Trap: p / s would run past the last row of a table, (ℓ − 1) / s > L − 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from posx.extensions.base import Extension, Target


@dataclass
class InterpolateConfig:
    """Nothing to set: the step between positions follows from L and ℓ."""


class Interpolate(Extension):
    """Fractional positions between trained ones."""

    Config = InterpolateConfig
    changes = "positions"

    @staticmethod
    def step(target: Target) -> float:
        """Distance between neighbouring tokens, in trained positions."""
        if target.length <= target.context:
            return 1.0
        if target.last_position is None:
            return 1.0 / target.scale
        return target.last_position / (target.length - 1)

    def resolved(self, target: Target) -> dict[str, Any]:
        return {"step": self.step(target)}

    def positions(self, positions: Tensor, target: Target) -> Tensor:
        step = self.step(target)
        return positions if step == 1.0 else positions.float() * step
