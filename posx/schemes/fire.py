"""FIRE: a small network of the distance, as a share of the query's own position.

    logit(i, j) += f_h( ψ(i − j) / (ψ(max(T, i)) + ε) )        ψ(x) = ln(1 + c·x)

f is one hidden layer of ``hidden`` rectified units for all heads; c and T are learned and taken by absolute value.
One bias for all layers, as in the paper's variant FIRE-S. The share lies between 0 and 1 at every length, so that no
input is new to the network.

Source: Li et al. 2023, arXiv 2310.04418, section 3 and appendix E (c = 0.1, T = 512 times a learned multiple, width 32,
ε = 1e-6). T starts at L here where L is shorter.
Parameters: 2 · hidden + hidden · H + 2. Cost: the network for each pair, once a forward in training, in every layer
at long contexts.
Trap: the divisor takes the *query's* position, so that this is no bias by distance past T. Unlike there, f has no bias
at its output, which would cancel in the softmax, and hidden biases start in (0.1, 1), not (−1, 1): of units that
start with weight and bias below 0 none would ever be awake between 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posx.errors import PosxError
from posx.schemes.base import Closure, ModelShape, Scheme, Site

EPSILON = 1e-6


@dataclass
class FireConfig:
    """``hidden`` units of the network; ``threshold``: T in tokens at the start, None: 512, or L where L is shorter."""

    hidden: int = 32
    threshold: float | None = None
    c: float = 0.1


class Fire(Scheme):
    """Functional interpolation of relative positions."""

    Config = FireConfig
    formula = "logit + f_h(ψ(d) / ψ(max(T, i))),  ψ(x) = ln(1 + c·x),  f a small network"

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__(config, shape)
        self.first = nn.Linear(1, config.hidden)
        self.second = nn.Linear(config.hidden, shape.n_heads, bias=False)
        self.c = nn.Parameter(torch.empty(()))
        # Of the initial threshold: T itself would hardly move in training.
        self.multiple = nn.Parameter(torch.empty(()))

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.hidden < 1:
            raise PosxError(f"scheme.hidden={config.hidden} leaves no unit.", "The paper uses scheme.hidden=32.")
        for name in ("threshold", "c"):
            value = getattr(config, name)
            if value is not None and not 0 < value < float("inf"):
                raise PosxError(f"scheme.{name}={value:g} must be above 0.", "FIRE starts from c=0.1 and T=512.")

    @property
    def threshold(self) -> float:
        """T in tokens, before training."""
        return float(min(512, self.shape.context) if self.config.threshold is None else self.config.threshold)

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        if name in ("c", "multiple"):
            parameter.fill_(self.config.c if name == "c" else 1.0)
        else:  # as torch's Linear, but that biases start above 0
            width = self.config.hidden if name.startswith("second") else 1
            least = 0.1 if name == "first.bias" else -(width**-0.5)
            nn.init.uniform_(parameter, least, width**-0.5, generator=generator)

    def share(self, distance: Tensor, query: Tensor) -> Tensor:
        """What the network is given for a distance and the position of the query, float32."""
        end = torch.maximum(query.float(), (self.multiple * self.threshold).abs())
        return self.grown(distance.float()) / (self.grown(end) + EPSILON)

    def grown(self, x: Tensor) -> Tensor:
        """ψ(x)."""
        return torch.log((self.c * x).abs() + 1)

    def bias(self, site: Site) -> Closure:
        inner, outer = self.first, self.second

        def added(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            query = site.q_pos[i] if site.q_pos.ndim == 1 else site.q_pos[b, i]
            share = self.share(site.distance(b, i, j).clamp(min=0), query)
            if h.ndim == 0:  # FlexAttention, a pair at a time: it knows no products of matrices
                units = (torch.relu(share * inner.weight[u, 0] + inner.bias[u]) for u in range(len(inner.bias)))
                return sum((outer.weight[h, u] * unit for u, unit in enumerate(units)), torch.zeros_like(share))
            with torch.autocast(share.device.type, enabled=False):
                hidden = torch.relu(share[..., None] * inner.weight[:, 0] + inner.bias)
                heads = F.linear(hidden, outer.weight[h.flatten()]).movedim(-1, -3)
            return heads.squeeze(1) if heads.ndim == 5 else heads  # [B, 1, H, Tq, Tk]: positions for each sequence

        return added
