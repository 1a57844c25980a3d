"""ALiBi with slopes that shrink with the input length, so that the farthest key has the same penalty as in training.

    m_h → m_h · L / ℓ        for ℓ > L

Source: Al-Khateeb et al. 2023, arXiv 2310.13017, section 3 (position interpolation for ALiBi).
Pitfall: with a fixed s, it also weakens the distinction between near keys at ℓ ≤ L: short inputs get worse.
"""

from __future__ import annotations

from posx.extensions.base import Target
from posx.extensions.pi import Scaled


class AlibiScale(Scaled):
    """Slopes divided by s."""

    changes = "slopes"

    def slopes(self, target: Target) -> float:
        return 1 / self.scale(target)
