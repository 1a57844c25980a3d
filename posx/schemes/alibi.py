"""ALiBi: a penalty proportional to distance, with a fixed slope per head.

    logit(i, j) += −m_h · (i − j)        m_h = 2^(−8h / H),  h = 1 .. H

If H is not a power of two: the slopes of the next lower power of two, then every second slope of twice that number.

Source: Press et al. 2021, arXiv 2108.12409, section 3; slopes for other H: the authors' released code.
Shapes: m [H]; the addend [1, H, Tq, Tk], float32.
Parameters: none (slopes are fixed). Cost: one addition per logit.
Pitfall: the released code adds +m·j, which is equivalent only after the softmax. For H = 12 the slopes are 0.5 …
0.0039, then .707, .354, .177, .088.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posx.extensions.base import Applied
from posx.schemes.base import Closure, ModelShape, Scheme, Site
from posx.schemes.facts import Case, Fact, digits


@dataclass
class AlibiConfig:
    """No settings: the slopes are determined by the number of heads."""


def slopes(n_heads: int) -> list[float]:
    """m_h for h = 1 .. n_heads."""
    lower = 2 ** math.floor(math.log2(n_heads))
    lower_slopes = [2 ** (-8 * h / lower) for h in range(1, lower + 1)]
    doubled = [2 ** (-8 * h / (2 * lower)) for h in range(1, 2 * lower + 1)]
    return lower_slopes + doubled[0::2][: n_heads - lower]


class Alibi(Scheme):
    """Attention with linear biases."""

    Config = AlibiConfig
    outlook = (
        "It survives: perplexity 19.73 at 512, 18.73 at 1012 and 18.41 at 4512 tokens, trained at 512 (Press et al. "
        "2021, table 2). Scored with full context, perplexity is flat, 17.98 to 18.30 at 3072 (tables 13–15): it makes "
        "no use of the distant tokens."
    )
    bias_by_distance = True
    accepts = frozenset({"distances", "slopes"})
    slopes: torch.Tensor

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__(config, shape)
        # Computed from H, so not stored in the checkpoint.
        self.register_buffer("slopes", torch.tensor(slopes(shape.n_heads)), persistent=False)

    def prepare(self, positions: Tensor, extension: Applied) -> Tensor:
        return self.slopes * extension.slopes()

    def bias(self, site: Site) -> Closure:
        m = self.slopes if site.shared is None else site.shared
        return lambda b, h, i, j: -m[h] * site.distance(b, i, j)

    def facts(self, case: Case) -> list[Fact]:
        before, now = (
            [float(m * factor) for m in (self.slopes.min(), self.slopes.max())]
            for factor in (1.0, case.extension.slopes())
        )
        current = "unchanged, linear in d"
        if now != before:
            current = f"m from {digits(now[0])} to {digits(now[1])}: still linear in d"
        trained = f"-m·d, m from {digits(before[0])} to {digits(before[1])}"
        return [*super().facts(case), Fact("bias per head", trained, current, {"slopes": now})]
