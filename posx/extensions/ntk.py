"""NTK-aware scaling: a larger base, so that the lowest frequency is divided by s and the highest is unchanged.

    b → b · s^(R / (R − 2)),   which is   θ_k → θ_k · s^(−2k / (R − 2)),   k = 0 .. R/2 − 1

Source: "NTK-aware scaled RoPE" (bloc97, 2023); derived in Peng et al. 2023, arXiv 2309.00071, section 3.1.
Pitfall: some dimensions exceed the angles seen in training; a nominal s above ℓ / L often works better.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from posx.extensions.base import Target
from posx.extensions.pi import Scaled


class NTK(Scaled):
    """NTK-aware scaling of the rotary base."""

    changes = "spectrum"

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return [{}, *({"s": round(target.scale * factor, 4)} for factor in (1.5, 2.0, 4.0))]

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        return rebased(frequencies, self.scale(target))


def rebased(frequencies: Tensor, s: float) -> Tensor:
    """θ_k [R/2] of a base b · s^(R / (R − 2)) instead of b: the last is divided by s, the first is unchanged."""
    pairs = frequencies.shape[0]
    if pairs == 1 or s == 1:  # R = 2: the only frequency is the highest, which is unchanged
        return frequencies
    k = torch.arange(pairs, device=frequencies.device, dtype=torch.float32)
    return frequencies * s ** (-k / (pairs - 1))
