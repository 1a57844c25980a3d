"""ABF, adjusted base frequency: a larger base, at every length.

    θ_k = base^(−2k / R)

Source: Xiong et al. 2023, arXiv 2309.16039, section 4.1 (500,000 instead of 10,000, with fine-tuning).
Pitfall: it is designed for fine-tuning. Without fine-tuning, it also affects short inputs.
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
class ABFConfig:
    """``base``: replaces the scheme's base."""

    base: float = 500000.0


class ABF(Extension):
    """A different base."""

    Config = ABFConfig
    changes = "spectrum"

    @classmethod
    def check(cls, config: Any) -> None:
        if not 1 < config.base < math.inf:
            raise PosxError(f"abf with base={config.base:g}: a base must be above 1.", "The paper uses base=500000.")

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return [{"base": 100000.0}, {}]

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        k = torch.arange(len(frequencies), device=frequencies.device, dtype=torch.float32)
        theta = self.config.base ** (-k / len(frequencies))
        return torch.where(frequencies == 0, frequencies, theta)  # pairs that do not rotate stay unchanged
