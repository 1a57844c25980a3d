"""Sandwich: the product of two sinusoidal position vectors as a bias, divided by a number of its own in each head.

    logit(i, j) += (H / 8h) · Σ_k cos((i − j) · θ_k)        θ_k = base^(−2k / width),  k = 1 .. width/2,  h = 1 .. H

The sum is PE(i)·PE(j) of sinusoidal positions of that width, so a bias of the distance alone; ``width`` is a setting
of its own, not the model's.

Source: Chi et al. 2022, arXiv 2212.10356, section 4 (width d̄ = 128, chosen on validation; compression ratios 8h/H).
Shapes: the addend [1, H, Tq, Tk], float32.
Parameters: none. Cost: on a CPU one gather and one addition for each logit.
Trap: the exponent counts ``width``, not the head's dimension. A constant in the bias of a head cancels in the softmax,
so that only differences between distances matter.
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
    """``width`` of the position vectors whose product it is (even); ``base`` sets their longest wavelength."""

    width: int = 128
    base: float = 10000.0


class Sandwich(DistanceBias):
    """Sinusoids, multiplied."""

    Config = SandwichConfig
    outlook = (
        "Its paper compares it with ALiBi and KERPLE, which survive past their training context, and interprets all "
        "three as soft windows (Chi et al. 2022)."
    )

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.width < 2 or config.width % 2:
            raise PosxError(
                f"scheme.width={config.width} is no even number from 2: sandwich adds up a cosine for each pair.",
                "The paper uses scheme.width=128.",
            )
        if not 1 < config.base < math.inf:
            raise PosxError(f"scheme.base={config.base} must be above 1.", "The paper uses scheme.base=10000.")

    def addend(self, h: Tensor, distance: Tensor) -> Tensor:
        width, d = self.config.width, distance.float()
        total = torch.zeros_like(d)
        for k in range(1, width // 2 + 1):  # one at a time: all at once would be as many matrices
            total = total + torch.cos(d * self.config.base ** (-2 * k / width))
        return total * self.shape.n_heads / (8.0 * (h + 1))
