"""Dynamic NTK: the base grows with the input length, and is unchanged up to L.

    b → b · (f·ℓ/L − (f − 1))^(R / (R − 2))   for ℓ > L

Source: emozilla, 2023 ("Dynamically Scaled RoPE"), as in transformers' rope type ``dynamic``.
Pitfall: transformers keeps the frequencies of the longest input so far and uses them for shorter inputs that follow.
Here they depend only on the length. f = 4 at 4 L equals NTK with s = 13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from posx.errors import PosxError
from posx.extensions.base import Extension, Target
from posx.extensions.ntk import rebased


@dataclass
class DynamicNTKConfig:
    """``f``: factor; ``s``: fixed scale, None: computed from f and the length."""

    f: float = 2.0
    s: float | None = None


class DynamicNTK(Extension):
    """NTK-aware scaling that depends on the length."""

    Config = DynamicNTKConfig
    changes = "spectrum"

    @classmethod
    def check(cls, config: Any) -> None:
        for name in ("f", "s"):
            value = getattr(config, name)
            if value is not None and not 1 <= value < math.inf:
                raise PosxError(f"dynamic-ntk requires {name} of at least 1, not {value:g}.", f"Use {name}=1 or more.")

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return [{}, {"f": 4.0}]

    def scale(self, target: Target) -> float:
        """s of NTK; 1 up to L."""
        return self.config.f * target.scale - (self.config.f - 1) if self.config.s is None else float(self.config.s)

    def resolved(self, target: Target) -> dict[str, Any]:
        return {"f": self.config.f, "s": self.scale(target)}

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        return rebased(frequencies, self.scale(target))
