"""Interpolated position vectors: ℓ positions are spread evenly over the trained range.

    learned:     p → p · (L − 1) / (ℓ − 1)   for ℓ > L; fractional positions are a weighted mean of two rows
    sinusoidal:  p → p / s                   s = max(1, ℓ / L)

Source: common practice for Vision Transformers at a higher resolution (Dosovitskiy et al. 2020, arXiv 2010.11929,
section 3.2), in one dimension; identical to torch's ``interpolate(mode="linear", align_corners=True)``.
Pitfall: p / s would exceed the last row of a table, (ℓ − 1) / s > L − 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from posx.extensions.base import Extension, Target


@dataclass
class InterpolateConfig:
    """No settings: the step between positions is determined by L and ℓ."""


class Interpolate(Extension):
    """Fractional positions between trained ones."""

    Config = InterpolateConfig
    changes = "positions"

    @staticmethod
    def step(target: Target) -> float:
        """Distance between adjacent tokens, in trained positions."""
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
