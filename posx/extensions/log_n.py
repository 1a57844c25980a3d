"""Log-n: queries are scaled by the logarithm of the number of visible keys, if it exceeds that in training.

    q_i → q_i · max(1, ln(i + 1) / ln L)

Source: Su Jianlin 2021 (kexue.fm/archives/8823); Chiang & Cholak 2022, arXiv 2202.12172, section 5.3.
Pitfall: biases of the logits are not multiplied. i counts tokens, not positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posx.extensions.base import Extension, Target


@dataclass
class LogNConfig:
    """No settings: the factor is determined by L."""


class LogN(Extension):
    """Sharper attention for later queries."""

    Config = LogNConfig
    changes = "temperature"

    def temperature(self, index: Tensor, target: Target) -> Tensor:
        return (torch.log(index.float() + 1) / math.log(max(2, target.context))).clamp(min=1)
