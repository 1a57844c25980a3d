"""Forgetting transformer: each token has a forget gate, and a logit loses the log gates of the tokens in between.

    logit(i, j) += Σ_{l=j+1..i} ln f_l        f_l = σ(w_h · x_l + b_h),  x the layer's input after its norm

The addend depends on the tokens in between and not on positions: order comes from the sum.

Source: Lin et al. 2025, arXiv 2503.02130, section 3.1. Gates start nearly open, b = 5, as in x-transformers; in the
authors' code they start half open, b = 0, which is ``scheme.initial=0``.
Shapes: w [layers, H, C], b [layers, H]; x [B, T, C]; the addend [B, H, Tq, Tk], float32.
Parameters: layers · H · (C + 1). Cost: one product per token, a running sum, and two gathers per logit.
Pitfall: with an off-by-one error, the key's gate would count, or the query's would not. The running sum is computed in
float64: over 16,384 tokens it can reach 1e5, where float32 has steps of 0.008, and the addend is a small difference of
two sums. The error of an addend is then at most 2^-22 of itself, plus 2^-23 of the summed log gates of the preceding
queries in its block: 4e-4 for 512 queries with a log gate of −6.
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
    sign: ClassVar[float] = 1.0  # of the gate's input

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__(config, shape)
        self.weight = nn.Parameter(torch.empty(shape.n_layers, shape.n_heads, shape.d_model))
        self.offset = nn.Parameter(torch.empty(shape.n_layers, shape.n_heads))

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if not math.isfinite(config.initial):
            raise PosxError(f"scheme.initial={config.initial} must be finite.", "With 0, gates start half open.")

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        if name == "offset":
            parameter.fill_(self.config.initial)
        else:
            super().initialise(name, parameter, generator)

    def bias(self, site: Site) -> Closure:
        assert site.x is not None
        with torch.autocast(site.x.device.type, enabled=False):
            gates = F.linear(site.x.float(), self.weight[site.layer], self.offset[site.layer])
            sums = F.logsigmoid(self.sign * gates).double().cumsum(1).transpose(1, 2)  # [B, H, Tk]
        # Sums are relative to the first query of the block: float32 then loses digits only for distant keys, whose
        # weights are smallest. Relative to the last query, rounding would leak later tokens to the other queries.
        sums = (sums - sums[..., site.q_start, None]).float()
        return lambda b, h, i, j: sums[b, h, site.q_start + i] - sums[b, h, j]
