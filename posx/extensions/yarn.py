"""YaRN: NTK by parts, with sharper attention.

    θ_k as by-parts;  cos and sin · (0.1 · ln s + 1)

Both q and k are multiplied, so the product of their rotated dimensions is multiplied by the square.

Source: Peng et al. 2023, arXiv 2309.00071, sections 3.2 and 3.4 (equations 21 and 22).
Pitfall: unrotated dimensions are not multiplied. Some public implementations invert the ramp, or divide twice.
"""

from __future__ import annotations

import math
from typing import Any

from posx.extensions.base import Target
from posx.extensions.by_parts import ByParts


class Yarn(ByParts):
    """By parts, with a temperature."""

    def amplitude(self, target: Target) -> float:
        return 0.1 * math.log(self.scale(target)) + 1

    def resolved(self, target: Target) -> dict[str, Any]:
        return {**super().resolved(target), "amplitude": self.amplitude(target)}
