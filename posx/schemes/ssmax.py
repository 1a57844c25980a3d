"""Scalable softmax: logits grow with the logarithm of the number of keys, so that attention stays focused.

    logits of query i · s_h · ln n,  n the number of tokens up to i;  s_h learned for each head of each layer

Source: Nakanishi 2025, arXiv 2501.19399, section 2. Everything that enters the softmax is multiplied, including a bias.
The initial value is our choice: 1 / ln L, so that a query at the end of the training context starts with the usual
softmax.
Shapes: s [layers, H]; the factor for a block of queries [H, Tq], float32.
Parameters: layers · H, plus those of the inner scheme. Cost: one product per element of q and of a bias.
Pitfall: this scheme is trained; ``log-n`` is an extension for models that are already trained. n counts tokens, not
positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from posx.errors import PosxError
from posx.schemes.base import Capabilities, Closure, ModelShape, Scheme, Site
from posx.schemes.facts import Case, Fact, digits
from posx.schemes.wrapper import Wrapper


@dataclass
class SSMaxConfig:
    """``inner``: a scheme."""

    inner: Any = "rope"


class SSMax(Wrapper):
    """Scalable softmax."""

    Config = SSMaxConfig
    outlook = (
        "Its paper reports better perplexity and retrieval in contexts longer than in training, with rope of a larger "
        "base (Nakanishi 2025). Rope's angles are as new as without it."
    )

    def __init__(self, config: Any, shape: ModelShape, inner: Sequence[Scheme]):
        super().__init__(config, shape, inner)
        inside = self.inner.capabilities
        if inside.needs_logits or inside.has_own_attention or isinstance(self.inner, SSMax):
            raise PosxError(
                "ssmax does not support inner schemes that need all logits, replace attention, or are ssmax.",
                "Try scheme.inner=rope or alibi.",
            )
        self.s = nn.Parameter(torch.empty(shape.n_layers, shape.n_heads))

    def declare(self) -> Capabilities:
        inner = super().declare()
        bias = "layer" if inner.has_bias else "none"  # the scale differs between layers
        return replace(inner, bias=bias, per_layer=True, by_position=False)

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        if name == "s":
            parameter.fill_(1 / math.log(max(2, self.shape.context)))
        else:
            super().initialise(name, parameter, generator)

    def scale(self, site: Site, count: int) -> Tensor:
        """s_h · ln n [H, Tq] of the first ``count`` queries of a site, float32."""
        n = torch.arange(count, device=self.s.device) + site.q_start + 1
        return self.s[site.layer][:, None] * n.float().log()

    def rotate(self, q: Tensor, k: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        q, k = super().rotate(q, k, site)
        return (q * self.scale(site, q.shape[2])[..., None]).to(k.dtype), k

    def bias(self, site: Site) -> Closure:
        scale = self.scale(site, site.q_pos.shape[-1])
        if site.q is not None and self.inner.capabilities.bias_per_layer:
            # The inner bias is computed from unscaled queries, because its value is scaled below.
            unscaled = site.q / torch.where(scale == 0, 1.0, scale)[..., None]
            site = replace(site, q=unscaled.to(site.q.dtype))
        inner_bias = super().bias(site)
        return lambda b, h, i, j: scale[h, i] * inner_bias(b, h, i, j)

    def facts(self, case: Case) -> list[Fact]:
        before, now = math.log(case.context), math.log(case.length)
        factor = Fact("factor ln n of the logits", f"up to {digits(before)}",
                   f"{digits(now)} ({now / before - 1:+.1%})", {"ln": now})  # fmt: skip
        return [factor, *super().facts(case)]
