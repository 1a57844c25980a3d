"""Log-n: queries grow with the logarithm of how many keys they see, once those are more than in training.

    q_i → q_i · max(1, ln(i + 1) / ln L)

Source: Su Jianlin 2021 (kexue.fm/archives/8823); Chiang & Cholak 2022, arXiv 2202.12172, section 5.3.
Trap: what is added to the logits is not multiplied. i counts tokens, not positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posx.extensions.base import Extension, Target


@dataclass
class LogNConfig:
    """Nothing to set: it follows from L."""


class LogN(Extension):
    """Sharper attention for later queries."""

    Config = LogNConfig
    changes = "temperature"

    def temperature(self, index: Tensor, target: Target) -> Tensor:
        return (torch.log(index.float() + 1) / math.log(max(2, target.context))).clamp(min=1)
