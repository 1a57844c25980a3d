"""Resonance: wavelengths rounded to whole tokens, so that a pair that turned in training meets the same angles again.

    θ_k → 2π / round(2π / θ_k)        at every length, L and shorter too: made for a training with it

Source: Wang et al. 2024, arXiv 2403.00071, section 4.
Beside another scaling it rounds the wavelengths that come out of it, as the authors' code does (resonance+yarn is their
Resonance YaRN): rounded before, those that are interpolated would be fractions again. What a scaling asks of the
frequencies, such as how often a pair turned in L, it asks of those that were not rounded.
Trap: without training it moves a model's frequencies a little, by up to 5 % (2π → 6) for the fastest pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posx.extensions.base import Extension, Target


@dataclass
class ResonanceConfig:
    """Nothing to set."""


class Resonance(Extension):
    """Whole wavelengths."""

    Config = ResonanceConfig
    changes = "wavelengths"
    formula = "2π / round(2π / θ_k), after any other scaling"

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        # Rope's fastest pair has a wavelength of 2π; a user's own of less than half a token would divide by 0.
        rounded = 2 * math.pi / (2 * math.pi / frequencies).round().clamp(min=1)
        return torch.where(frequencies == 0, frequencies, rounded)  # pairs that do not rotate go on as they are
