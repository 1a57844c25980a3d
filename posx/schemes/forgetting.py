"""Forgetting transformer: each token closes a gate a little, and a logit loses what the gates between have closed.

    logit(i, j) += Σ_{l=j+1..i} ln f_l        f_l = σ(w_h · x_l + b_h),  x the layer's input after its norm

The addend depends on the tokens between and on no position: order comes from the sum.

Source: Lin et al. 2025, arXiv 2503.02130, section 3.1. The gates start nearly open, b = 5, as in x-transformers; the
authors' code starts them half open, b = 0, which is ``scheme.initial=0``.
Shapes: w [layers, H, C], b [layers, H]; x [B, T, C]; the addend [B, H, Tq, Tk], float32.
Parameters: layers · H · (C + 1). Cost: one product for each token, a running sum, and two gathers for each logit.
Trap: off by one, the gate of the key would count, or that of the query would not. The running sum is taken in float64:
over 16,384 tokens it may reach 1e5, where float32 has steps of 0.008, and what matters is a small difference of two. An
addend is then off by 2^-22 of itself, and 2^-23 of what the queries before it in its block cost, at most: 4e-4 for 512
queries that cost 6 each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from posx.errors import PosxError
from posx.schemes.base import Closure, ModelShape, Scheme, Site


@dataclass
class GateConfig:
    """``initial`` value of b."""

    initial: float = 5.0


class Forgetting(Scheme):
    """Forget gates."""

    Config = GateConfig
    outlook = "Its paper reports better extrapolation past the training context than with rope (Lin et al. 2025)."
    bias_per_layer = True
    by_position = False
    sign: ClassVar[float] = 1.0  # of what the gate is given

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__(config, shape)
        self.weight = nn.Parameter(torch.empty(shape.n_layers, shape.n_heads, shape.d_model))
        self.offset = nn.Parameter(torch.empty(shape.n_layers, shape.n_heads))

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if not math.isfinite(config.initial):
            raise PosxError(f"scheme.initial={config.initial} is no number to start from.", "0 is a gate half open.")

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        if name == "offset":
            parameter.fill_(self.config.initial)
        else:
            super().initialise(name, parameter, generator)

    def bias(self, site: Site) -> Closure:
        assert site.x is not None
        with torch.autocast(site.x.device.type, enabled=False):
            given = F.linear(site.x.float(), self.weight[site.layer], self.offset[site.layer])
            sums = F.logsigmoid(self.sign * given).double().cumsum(1).transpose(1, 2)  # [B, H, Tk]
        # Counted from the first of these queries: float32 then loses digits of far keys alone, which weigh least. Not
        # from the last: the others would see, in their last bit, what came after them.
        sums = (sums - sums[..., site.q_start, None]).float()
        return lambda b, h, i, j: sums[b, h, site.q_start + i] - sums[b, h, j]
