"""ALiBi with slopes that shrink as the input grows, so that the farthest key is punished as in training.

    m_h → m_h · L / ℓ        where ℓ > L

Source: Al-Khateeb et al. 2023, arXiv 2310.13017, section 3 (position interpolation for ALiBi).
Trap: kept on at ℓ ≤ L with a fixed s it blurs near keys: short inputs suffer.
"""

from __future__ import annotations

from posx.extensions.base import Target
from posx.extensions.pi import Scaled


class AlibiScale(Scaled):
    """Slopes divided by s."""

    changes = "slopes"

    def slopes(self, target: Target) -> float:
        return 1 / self.scale(target)
