"""Resonance: wavelengths are rounded to whole tokens, so that angles repeat exactly.

    θ_k → 2π / round(2π / θ_k)        at every length, including up to L: designed for training with it

Source: Wang et al. 2024, arXiv 2403.00071, section 4.
Combined with another scaling, ``when=after`` rounds its resulting wavelengths, as in the authors' code (with yarn this
is their Resonance YaRN). ``when=before`` rounds the original wavelengths: pairs that the scaling leaves unchanged stay
whole, and the scaling counts rotations in L with the rounded wavelengths.
Pitfall: angles are p·θ in float32, so they repeat to 1e-3 at 16,384 tokens, not to the bit. Without training, it
changes the model's frequencies slightly, by up to 5% (2π → 6) for the fastest pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posx.errors import PosxError
from posx.extensions.base import Extension, Target


@dataclass
class ResonanceConfig:
    """``when``: after or before another scaling."""

    when: str = "after"


class Resonance(Extension):
    """Whole wavelengths."""

    Config = ResonanceConfig
    changes = "wavelengths"

    @classmethod
    def check(cls, config: Any) -> None:
        if config.when not in ("after", "before"):
            raise PosxError(f"when='{config.when}' is not a valid choice.", "Use when=after or before.")

    @property
    def turn(self) -> int:
        return 1 if self.config.when == "after" else -1

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        # Rope's shortest wavelength is 2π. In a user's scheme, one below half a token would cause a division by 0.
        rounded = 2 * math.pi / (2 * math.pi / frequencies).round().clamp(min=1)
        return torch.where(frequencies == 0, frequencies, rounded)  # pairs that do not rotate stay unchanged
