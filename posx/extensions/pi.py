"""Position interpolation (PI): all frequencies are divided by s, so that ℓ positions fit in the trained range.

    θ_k → θ_k / s        s = max(1, ℓ / L), unless fixed

Source: Chen et al. 2023, arXiv 2306.15595, section 3.2. Dividing θ by s is equivalent to dividing positions by s.
Pitfall: without fine-tuning, adjacent tokens become harder to distinguish. With a fixed s, short inputs get worse too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from posx.errors import PosxError
from posx.extensions.base import Extension, Target


@dataclass
class ScaledConfig:
    """``s`` None: max(1, ℓ / L) at each length ℓ."""

    s: float | None = None


class Scaled(Extension):
    """Base of extensions with a scale s."""

    Config: ClassVar[type] = ScaledConfig

    @classmethod
    def check(cls, config: Any) -> None:
        if config.s is not None and not 1 <= config.s < math.inf:
            raise PosxError(f"the scale s={config.s:g} must be at least 1 and finite.", "Omit it for ℓ / L.")

    def scale(self, target: Target) -> float:
        """The effective s at this length."""
        return target.scale if self.config.s is None else float(self.config.s)

    def resolved(self, target: Target) -> dict[str, Any]:
        return {"s": self.scale(target)}


class PI(Scaled):
    """Position interpolation."""

    changes = "spectrum"

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        return frequencies / self.scale(target)
