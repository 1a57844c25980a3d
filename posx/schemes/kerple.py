"""KERPLE: a kernel of the distance as a penalty, with two learned numbers per head.

    log:    logit(i, j) += −r1 · ln(1 + r2·(i − j))       r1, r2 > 0
    power:  logit(i, j) += −r1 · (i − j)^r2               r1 > 0,  0 < r2 ≤ 2

All layers share one bias. Both numbers are clamped to 0.01 or more (and the power to 2 or less) when they are used.
Gradients pass through the clamp, so that a parameter beyond a limit can return.

Source: Chi et al. 2022, arXiv 2205.09921, section 4; initial values (log: r1 ~ U(0, 2), r2 ~ U(0, 1); power:
r1 ~ U(0, 1), r2 ~ U(0, 2)) and the limit of 0.01 as in the authors' released code.
Shapes: r1 and r2 [H]; the addend [1, H, Tq, Tk], float32.
Parameters: 2 · H. Cost: on a CPU, one gather and one addition per logit.
Pitfall: bf16 cannot represent distances from 257 on exactly, so distances stay integers or float32 here. The released
code moves a parameter below the limit back to the limit at every step; here it keeps its value, and takes longer to
return.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from posx.errors import PosxError
from posx.schemes.base import ModelShape
from posx.schemes.distance import DistanceBias

LEAST = 0.01
INITIAL = {"log": (2.0, 1.0), "power": (1.0, 2.0)}  # upper ends of the uniform distributions of r1 and r2


@dataclass
class KerpleConfig:
    """``kernel``: log or power."""

    kernel: str = "log"


def within(value: Tensor, largest: float | None = None) -> Tensor:
    """``value`` clamped to LEAST .. ``largest``, with the gradient of the unclamped value."""
    return value + (value.clamp(LEAST, largest) - value).detach()


class Kerple(DistanceBias):
    """Kernelised relative positions."""

    Config = KerpleConfig
    outlook = (
        "The logarithmic kernel keeps improving: perplexity 23.9 at 512, 22.0 at 1024, 21.6 at 2048 and 21.4 at 16384 "
        "tokens, trained at 512, compared with 23.9, 22.4, 22.5 and 22.5 for ALiBi (Chi et al. 2022, five seeds)."
    )

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__(config, shape)
        self.r1 = nn.Parameter(torch.empty(shape.n_heads))
        self.r2 = nn.Parameter(torch.empty(shape.n_heads))

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.kernel not in INITIAL:
            raise PosxError(
                f"scheme.kernel='{config.kernel}' is not a valid choice.", "Use scheme.kernel=log or power."
            )

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        nn.init.uniform_(parameter, 0.0, INITIAL[self.config.kernel][name == "r2"], generator=generator)

    def addend(self, h: Tensor, distance: Tensor) -> Tensor:
        if self.config.kernel == "log":
            return -within(self.r1)[h] * torch.log1p(within(self.r2)[h] * distance)
        return -within(self.r1)[h] * distance.float() ** within(self.r2, 2.0)[h]
