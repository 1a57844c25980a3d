"""DAPE: a small network maps logits and biases of all heads to a correction of the logits.

    logits = A + B + f([A ; B])        A = q·k / √D,  B the inner scheme's bias,  f: 2 H → hidden → H for each pair

Source: Zheng et al. 2024, arXiv 2405.14722, section 3 (f has two layers with a leaky ReLU in between; one f per layer).
Shapes: f [layers, hidden, 2 H], [layers, hidden] and [layers, H, hidden]; pairs [B, Tq, Tk, 2 H], float32.
Parameters: layers · (3 · H + 1) · hidden, plus those of the inner scheme. Cost: the network for each pair in every
layer.
Pitfall: it mixes heads and depends on the logits, so no closure over indices can express it. An output bias of f would
cancel in the softmax and is omitted.
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
    """``inner``: a scheme with a bias; ``hidden``: units of the network."""

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
        inside = self.inner.capabilities
        if not inside.has_bias or inside.needs_logits or inside.has_own_attention:
            raise PosxError(
                "dape requires an inner scheme that only adds a bias.",
                "Try scheme.inner=alibi or kerple-log.",
            )
        heads, hidden = shape.n_heads, config.hidden
        self.first = nn.Parameter(torch.empty(shape.n_layers, hidden, 2 * heads))
        self.first_offset = nn.Parameter(torch.empty(shape.n_layers, hidden))
        self.second = nn.Parameter(torch.empty(shape.n_layers, heads, hidden))

    def declare(self) -> Capabilities:
        inner = super().declare()
        accepts = inner.accepts - {"distances"}  # the network needs all biases at once
        return replace(inner, accepts=accepts, bias="layer", needs_logits=True, per_layer=True)

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.hidden < 1:
            raise PosxError(f"scheme.hidden={config.hidden} must be at least 1.", "The paper uses scheme.hidden=32.")

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        if name.startswith("inner."):
            super().initialise(name, parameter, generator)
        else:  # like torch's Linear
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
        correction = F.linear(hidden, self.second[site.layer])
        return logits + torch.where(seen, correction.movedim(-1, 1), 0.0)

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
        """B of the last query for zero q, k and x, [H, T]."""
        shape, n = self.shape, len(positions)
        q, k = (torch.zeros(1, shape.n_heads, m, shape.head_dim) for m in (1, n))
        shared = self.inner.prepare(positions, NONE)
        site = Site(positions[-1:], positions, n - 1, shared, q=q, k=k, x=torch.zeros(1, n, shape.d_model))
        zero, h, j = torch.zeros(1, dtype=torch.long), torch.arange(shape.n_heads), torch.arange(n)
        return self.inner.bias(site)(zero, h[:, None, None], zero[:, None], j).float().reshape(-1, n)
