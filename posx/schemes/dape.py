"""DAPE: a small network looks at a logit and its bias, in all heads at once, and adds what it makes of them.

    logits = A + B + f([A ; B])        A = q·k / √D,  B the inner scheme's bias,  f: 2 H → hidden → H for each pair

Source: Zheng et al. 2024, arXiv 2405.14722, section 3 (f two layers with a leaky rectifier between, one f a layer).
Shapes: f [layers, hidden, 2 H], [layers, hidden] and [layers, H, hidden]; pairs [B, Tq, Tk, 2 H], float32.
Parameters: layers · (3 · H + 1) · hidden, and the inner scheme's. Cost: the network for each pair
in every layer.
Trap: it mixes heads and must see the logits: no closure by index can say it. A bias at the output of f would cancel in
the softmax, and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posx.errors import PosxError
from posx.extensions.base import NONE
from posx.schemes.base import Capabilities, ModelShape, Scheme, Site
from posx.schemes.facts import Case, Fact, digits
from posx.schemes.wrapper import Wrapper


@dataclass
class DapeConfig:
    """``inner`` scheme with a bias; ``hidden`` units of the network."""

    inner: Any = "alibi"
    hidden: int = 32


class Dape(Wrapper):
    """Data-adaptive biases."""

    Config = DapeConfig
    outlook = (
        "Its paper reports that a model trained at 128 performs better at 8192 tokens than with static biases (Zheng "
        "et al. 2024)."
    )

    def __init__(self, config: Any, shape: ModelShape, inner: Sequence[Scheme]):
        super().__init__(config, shape, inner)
        does = self.inner.capabilities
        if not does.has_bias or does.needs_logits or does.has_own_attention:
            raise PosxError(
                "dape wants an inner scheme with a bias, and with no more than that.",
                "Try scheme.inner=alibi or kerple-log.",
            )
        heads, hidden = shape.n_heads, config.hidden
        self.first = nn.Parameter(torch.empty(shape.n_layers, hidden, 2 * heads))
        self.first_offset = nn.Parameter(torch.empty(shape.n_layers, hidden))
        self.second = nn.Parameter(torch.empty(shape.n_layers, heads, hidden))

    def declare(self) -> Capabilities:
        plain = super().declare()
        accepts = plain.accepts - {"distances"}  # it asks for all biases at once
        return replace(plain, accepts=accepts, bias="layer", needs_logits=True, per_layer=True)

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.hidden < 1:
            raise PosxError(f"scheme.hidden={config.hidden} leaves no unit.", "The paper uses scheme.hidden=32.")

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        if name.startswith("inner."):
            super().initialise(name, parameter, generator)
        else:  # as torch's Linear draws both
            width = self.config.hidden if name.startswith("second") else 2 * self.shape.n_heads
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5, generator=generator)

    def rescore(self, logits: Tensor, site: Site) -> Tensor:
        batch, heads, n_queries, n_keys = logits.shape
        b, h, i, j = (torch.arange(n, device=logits.device) for n in (batch, heads, n_queries, n_keys))
        added = self.inner.bias(site)(b[:, None, None, None], h[:, None, None], i[:, None], j).float()
        seen = logits > float("-inf")
        a = torch.where(seen, logits - added, 0.0)
        pairs = torch.cat([a, torch.where(seen, added, 0.0).expand_as(a)], dim=1).movedim(1, -1)  # [B, Tq, Tk, 2 H]
        hidden = F.leaky_relu(F.linear(pairs, self.first[site.layer], self.first_offset[site.layer]))
        more = F.linear(hidden, self.second[site.layer])
        return logits + torch.where(seen, more.movedim(-1, 1), 0.0)

    @torch.no_grad()
    def facts(self, case: Case) -> list[Fact]:
        before, now = (self.biases(positions) for positions in (torch.arange(case.span), case.positions))
        low, high = before.amin(1, keepdim=True), before.amax(1, keepdim=True)
        new = int((((now < low) | (now > high)).any(0) & case.seen).sum())
        return [*super().facts(case), Fact(
            "input biases of the network", f"{digits(float(before.min()))} to {digits(float(before.max()))}",
            f"{digits(float(now[:, case.seen].min()))} and up: new for {new} keys", {"new": new},
        )]  # fmt: skip

    def biases(self, positions: Tensor) -> Tensor:
        """B of the last query where content says nothing, [H, T]."""
        shape, n = self.shape, len(positions)
        q, k = (torch.zeros(1, shape.n_heads, m, shape.head_dim) for m in (1, n))
        shared = self.inner.prepare(positions, NONE)
        site = Site(positions[-1:], positions, n - 1, shared, q=q, k=k, x=torch.zeros(1, n, shape.d_model))
        zero, h, j = torch.zeros(1, dtype=torch.long), torch.arange(shape.n_heads), torch.arange(n)
        return self.inner.bias(site)(zero, h[:, None, None], zero[:, None], j).float().reshape(-1, n)
