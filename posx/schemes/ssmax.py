"""Scalable softmax: logits grow with the logarithm of the number of keys, so that attention does not fade as keys come.

    logits of query i · s_h · ln n,  n the number of tokens up to i;  s_h learned for each head of each layer

Source: Nakanishi 2025, arXiv 2501.19399, section 2. All that enters the softmax is multiplied, a bias too. The initial
value is ours: 1 / ln L, with which a query at the end of the training context starts with the usual softmax.
Shapes: s [layers, H]; the factor of a block of queries [H, Tq], float32.
Parameters: layers · H, and the inner scheme's. Cost: one product for each element of q and of a bias.
Trap: it is trained: a scheme, where ``log-n`` on a trained model would be an extension. n counts tokens, not positions.
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
    """``inner`` scheme."""

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
        does = self.inner.capabilities
        if does.needs_logits or does.has_own_attention or isinstance(self.inner, SSMax):
            raise PosxError(
                "ssmax scales what a softmax is given, once; its inner scheme does more to it than add a bias.",
                "Try scheme.inner=rope or alibi.",
            )
        self.s = nn.Parameter(torch.empty(shape.n_layers, shape.n_heads))

    def declare(self) -> Capabilities:
        plain = super().declare()
        bias = "layer" if plain.has_bias else "none"  # which is scaled as well
        return replace(plain, bias=bias, per_layer=True, by_position=False)

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
        if (
            site.q is not None and self.inner.capabilities.bias_per_layer
        ):  # its bias is of the query itself, not of the scaled one
            plain = site.q / torch.where(scale == 0, 1.0, scale)[..., None]
            site = replace(site, q=plain.to(site.q.dtype))
        inner = super().bias(site)
        return lambda b, h, i, j: scale[h, i] * inner(b, h, i, j)

    def facts(self, case: Case) -> list[Fact]:
        before, now = math.log(case.context), math.log(case.length)
        own = Fact("ln n, which multiplies logits", f"up to {digits(before)}",
                   f"{digits(now)} ({now / before - 1:+.1%})", {"ln": now})  # fmt: skip
        return [own, *super().facts(case)]
