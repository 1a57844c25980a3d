"""Temperature: all logits are multiplied by λ, so that attention stays equally sharp with more keys.

    logits → logits · λ        λ = 1 + c · ln s,  or ``factor``

Source: Wang et al. 2024, arXiv 2404.12224, section 3 (for models without positions; λ chosen for each length on
validation); 1 + c · ln s: arXiv 2512.12167, for models whose positions were dropped.
Pitfall: biases are multiplied too. c should be chosen on validation, which ``posx recommend`` does; 0.1 is only a
starting point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from posx.errors import PosxError
from posx.extensions.base import Extension, Target


@dataclass
class TemperatureConfig:
    """``c`` in 1 + c · ln s; or ``factor``, a fixed λ at every length."""

    c: float = 0.1
    factor: float | None = None


class Temperature(Extension):
    """Sharper attention for all queries."""

    Config = TemperatureConfig
    changes = "temperature"

    @classmethod
    def check(cls, config: Any) -> None:
        if not 0 <= config.c < math.inf or (config.factor is not None and not 0 < config.factor < math.inf):
            raise PosxError(
                f"c={config.c:g} and factor={config.factor} must be finite, c at least 0 and factor above 0.",
                "Try c=0.1, or choose it on validation with posx recommend.",
            )

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return [{}, {"c": 0.05}, {"c": 0.2}, {"c": 0.3}]

    def resolved(self, target: Target) -> dict[str, Any]:
        return {"c": self.config.c, "factor": self.sharpness(target)}

    def sharpness(self, target: Target) -> float:
        return 1 + self.config.c * math.log(target.scale) if self.config.factor is None else float(self.config.factor)
