"""ALiBi: a penalty that grows with distance, one slope a head.

    logit(i, j) += −m_h · (i − j)        m_h = 2^(−8h / H),  h = 1 .. H

Where H is not a power of two: the slopes of the next lower power of two, then every second slope of twice that.

Source: Press et al. 2021, arXiv 2108.12409, section 3; slopes for other H: the authors' released code.
Shapes: m [H]; the addend [1, H, Tq, Tk], float32.
Parameters: none (slopes are fixed). Cost: one addition for each logit.
Trap: the released code adds +m·j, which is the same only after the softmax. H = 12 gives 0.5 … 0.0039 and then
.707, .354, .177, .088.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posx.extensions.base import Applied
from posx.schemes.base import Closure, ModelShape, Scheme, Site


@dataclass
class AlibiConfig:
    """Nothing to set: the slopes follow from the number of heads."""


def slopes(n_heads: int) -> list[float]:
    """m_h for h = 1 .. n_heads."""
    lower = 2 ** math.floor(math.log2(n_heads))
    own = [2 ** (-8 * h / lower) for h in range(1, lower + 1)]
    doubled = [2 ** (-8 * h / (2 * lower)) for h in range(1, 2 * lower + 1)]
    return own + doubled[0::2][: n_heads - lower]


class Alibi(Scheme):
    """Attention with linear biases."""

    Config = AlibiConfig
    formula = "logit − m_h·(i − j),  m_h = 2^(−8h/H)"
    bias_by_distance = True
    accepts = frozenset({"distances", "slopes"})
    slopes: torch.Tensor

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__(config, shape)
        # Derived from H, so not in the checkpoint.
        self.register_buffer("slopes", torch.tensor(slopes(shape.n_heads)), persistent=False)

    def prepare(self, positions: Tensor, extension: Applied) -> Tensor:
        return self.slopes * extension.slopes()

    def bias(self, site: Site) -> Closure:
        m = self.slopes if site.shared is None else site.shared
        return lambda b, h, i, j: -m[h] * site.distance(b, i, j)
