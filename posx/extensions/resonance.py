"""Resonance: wavelengths rounded to whole tokens, so that a pair that turned in training meets the same angles again.

    θ_k → 2π / round(2π / θ_k)        at every length, L and shorter too: made for a training with it

Source: Wang et al. 2024, arXiv 2403.00071, section 4.
Beside another scaling, ``when=after`` rounds the wavelengths that come out of it, as the authors' code does (with yarn
it is their Resonance YaRN): those that are interpolated come out whole. ``when=before`` rounds what goes into it: pairs
that the scaling leaves alone stay whole, and it asks of the rounded ones how often they turned in L.
Trap: angles are p·θ in float32, so that they come again to 1e-3 at 16,384 tokens, not to the bit. Without training it
moves a model's frequencies a little, by up to 5 % (2π → 6) for the fastest pair.
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
    """``when``: after another scaling, or before it."""

    when: str = "after"


class Resonance(Extension):
    """Whole wavelengths."""

    Config = ResonanceConfig
    changes = "wavelengths"

    @classmethod
    def check(cls, config: Any) -> None:
        if config.when not in ("after", "before"):
            raise PosxError(f"when is after or before, but '{config.when}' was given.", "Try when=after.")

    @property
    def turn(self) -> int:
        return 1 if self.config.when == "after" else -1

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        # Rope's fastest pair has a wavelength of 2π; a user's own of less than half a token would divide by 0.
        rounded = 2 * math.pi / (2 * math.pi / frequencies).round().clamp(min=1)
        return torch.where(frequencies == 0, frequencies, rounded)  # pairs that do not rotate go on as they are
