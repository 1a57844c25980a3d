"""Dynamic NTK: the base grows with the length that is read, and stays as it was up to L.

    b → b · (f·ℓ/L − (f − 1))^(R / (R − 2))   where ℓ > L

Source: emozilla, 2023 ("Dynamically Scaled RoPE"), as in transformers' rope type ``dynamic``.
Trap: transformers keep the frequencies of the longest input that a model has seen, so that shorter ones after it are
read with those. Here they follow from the length alone. f = 4 at 4 L is NTK with s = 13.
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
    """``f`` is the factor; ``s``: the scale that acts, fixed; None: by f and the length."""

    f: float = 2.0
    s: float | None = None


class DynamicNTK(Extension):
    """NTK-aware scaling by the length."""

    Config = DynamicNTKConfig
    changes = "spectrum"

    @classmethod
    def check(cls, config: Any) -> None:
        for name in ("f", "s"):
            value = getattr(config, name)
            if value is not None and not 1 <= value < math.inf:
                raise PosxError(f"dynamic-ntk with {name}={value:g} extends nothing.", f"Give {name} of at least 1.")

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return [{}, {"f": 4.0}]

    def scale(self, target: Target) -> float:
        """What NTK calls s; 1 up to L."""
        return self.config.f * target.scale - (self.config.f - 1) if self.config.s is None else float(self.config.s)

    def resolved(self, target: Target) -> dict[str, Any]:
        return {"f": self.config.f, "s": self.scale(target)}

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        return rebased(frequencies, self.scale(target))
