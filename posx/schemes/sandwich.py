"""Sandwich: the dot product of two sinusoidal position vectors as a bias, scaled differently in each head.

    logit(i, j) += (H / 8h) · Σ_k cos((i − j) · θ_k)        θ_k = base^(−2k / width),  k = 1 .. width/2,  h = 1 .. H

The sum is PE(i)·PE(j) of sinusoidal positions with this width, so the bias depends only on the distance. ``width`` is
independent of the model's width.

Source: Chi et al. 2022, arXiv 2212.10356, section 4 (width d̄ = 128, chosen on validation; compression ratios 8h/H).
Shapes: the addend [1, H, Tq, Tk], float32.
Parameters: none. Cost: on a CPU, one gather and one addition per logit.
Pitfall: the exponent divides by ``width``, not by the head's dimension. A constant added to the bias of a head cancels
in the softmax; only differences between distances matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posx.errors import PosxError
from posx.schemes.base import ModelShape
from posx.schemes.distance import DistanceBias


@dataclass
class SandwichConfig:
    """``width``: width of the position vectors (even); ``base``: determines their longest wavelength."""

    width: int = 128
    base: float = 10000.0


class Sandwich(DistanceBias):
    """Dot products of sinusoids."""

    Config = SandwichConfig
    outlook = (
        "Its paper compares it with ALiBi and KERPLE, which survive past their training context, and interprets all "
        "three as soft windows (Chi et al. 2022)."
    )

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.width < 2 or config.width % 2:
            raise PosxError(
                f"scheme.width={config.width} must be even and at least 2: sandwich sums one cosine per pair.",
                "The paper uses scheme.width=128.",
            )
        if not 1 < config.base < math.inf:
            raise PosxError(f"scheme.base={config.base} must be above 1.", "The paper uses scheme.base=10000.")

    def addend(self, h: Tensor, distance: Tensor) -> Tensor:
        width, d = self.config.width, distance.float()
        total = torch.zeros_like(d)
        for k in range(1, width // 2 + 1):  # in a loop: all at once would need width / 2 matrices
            total = total + torch.cos(d * self.config.base ** (-2 * k / width))
        return total * self.shape.n_heads / (8.0 * (h + 1))
