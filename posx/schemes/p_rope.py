"""p-RoPE: rope with its lowest frequencies set to zero, so that these pairs carry no position.

    θ_k → θ_k  for the first ⌊kept · D/2⌋ pairs,  0 for the others

Source: Barbero et al. 2024, arXiv 2410.06205, section 6: models use the lowest frequencies for content, which their
rotation distorts over long distances.
Shapes: as rope.
Parameters: none. Cost: as rope.
Pitfall: this is not partial rope, whose exponent divides by the number of rotated dimensions. Here it divides by D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posx.errors import PosxError
from posx.schemes.base import ModelShape
from posx.schemes.rope import Rope, RopeConfig


@dataclass
class PRopeConfig(RopeConfig):
    """``kept``: fraction of the pairs that rotate, starting with the fastest."""

    kept: float = 0.75


class PRope(Rope):
    """Rope without its lowest frequencies."""

    Config = PRopeConfig
    outlook = (
        "No length curve was published. The slowest pairs, the first to reach new angles in rope, do not rotate; the "
        "other pairs may still reach new angles."
    )

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        super().check(config, shape)
        pairs = round(config.fraction * shape.head_dim) // 2
        if not 0 < config.kept <= 1 or int(config.kept * pairs) < 1:
            raise PosxError(
                f"scheme.kept={config.kept:g} is above 1, or leaves none of {pairs} pairs to rotate.",
                "The paper uses scheme.kept=0.75; with 1, this is rope.",
            )

    def frequencies(self, device: torch.device | None = None) -> Tensor:
        theta = super().frequencies(device)
        return torch.where(torch.arange(len(theta), device=device) < int(self.config.kept * len(theta)), theta, 0.0)
