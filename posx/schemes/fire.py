"""FIRE: a small network of the distance relative to the query's position.

    logit(i, j) += f_h( ψ(i − j) / (ψ(max(T, i)) + ε) )        ψ(x) = ln(1 + c·x)

f has one hidden layer of ``hidden`` ReLU units, shared by all heads. c and T are learned; their absolute values are
used. All layers share one bias, as in the paper's variant FIRE-S. The network's input is between 0 and 1 at every
length, so no input is new to it.

Source: Li et al. 2023, arXiv 2310.04418, section 3 and appendix E (c = 0.1, T = 512 times a learned multiple, width 32,
ε = 1e-6). Here T starts at L if L is shorter.
Shapes: hidden weights and biases [hidden], outer weights [H, hidden], c and T scalars; the addend [1, H, Tq, Tk].
Parameters: 2 · hidden + hidden · H + 2. Cost: the network for each pair, once per forward pass. Without gradients and
at long contexts, once per layer: a search among the ``hidden`` breakpoints of the piecewise linear f, and one product
per head.
Pitfall: the denominator uses the *query's* position, so the bias depends on more than the distance beyond T. Unlike
the paper's, f has no output bias, which would cancel in the softmax, and hidden biases start in (0.1, 1), not (−1, 1):
a unit whose weight and bias start below 0 would never be active between 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posx.errors import PosxError
from posx.extensions.base import Applied
from posx.schemes.base import Closure, ModelShape, Scheme, Site
from posx.schemes.facts import Case, Fact, digits


@dataclass
class FireConfig:
    """``hidden``: units of the network; ``threshold``: initial T in tokens, None: min(512, L)."""

    hidden: int = 32
    threshold: float | None = None
    c: float = 0.1


class Fire(Scheme):
    """Functional interpolation of relative positions."""

    Config = FireConfig
    outlook = (
        "Its paper reports better generalization to longer inputs than ALiBi, KERPLE, T5's bias and rope, in language "
        "modelling on C4 and on long-text tasks (Li et al. 2023)."
    )
    accepts = frozenset({"distances"})

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__(config, shape)
        self.first = nn.Linear(1, config.hidden)
        self.second = nn.Linear(config.hidden, shape.n_heads, bias=False)
        self.c = nn.Parameter(torch.empty(()))
        # T = multiple · threshold: T itself would hardly change in training.
        self.multiple = nn.Parameter(torch.empty(()))

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.hidden < 1:
            raise PosxError(f"scheme.hidden={config.hidden} must be at least 1.", "The paper uses scheme.hidden=32.")
        for name in ("threshold", "c"):
            value = getattr(config, name)
            if value is not None and not 0 < value < float("inf"):
                raise PosxError(
                    f"scheme.{name}={value:g} must be above 0 and finite.", "FIRE starts from c=0.1 and T=512."
                )

    @property
    def threshold(self) -> float:
        """T in tokens, before training."""
        return float(min(512, self.shape.context) if self.config.threshold is None else self.config.threshold)

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        if name in ("c", "multiple"):
            parameter.fill_(self.config.c if name == "c" else 1.0)
        else:  # like torch's Linear, except that hidden biases start above 0
            width = self.config.hidden if name.startswith("second") else 1
            least = 0.1 if name == "first.bias" else -(width**-0.5)
            nn.init.uniform_(parameter, least, width**-0.5, generator=generator)

    def share(self, distance: Tensor, query: Tensor) -> Tensor:
        """The network's input for a distance and the position of the query, float32."""
        end = torch.maximum(query.float(), (self.multiple * self.threshold).abs())
        numerator, denominator = (torch.log((self.c * x).abs() + 1) for x in (distance.float(), end))
        return numerator / (denominator + 1e-6)

    @torch.no_grad()
    def prepare(self, positions: Tensor, extension: Applied) -> tuple[Tensor, ...]:
        """f as a piecewise linear function: sorted knees [hidden], slopes and intercepts [H, hidden + 1]; float32."""
        a, b, w = (x.double() for x in (self.first.weight[:, 0], self.first.bias, self.second.weight))
        knees = torch.where(a == 0, 0.0, -b / a).clamp(-1e6, 1e6).sort().values  # shares stay far inside the limits
        between = torch.cat([knees[:1] - 1, (knees[1:] + knees[:-1]) / 2, knees[-1:] + 1])
        active = between[:, None] * a + b > 0  # [hidden + 1, hidden]: constant between two knees
        return knees.float(), (w @ (active * a).T).float(), (w @ (active * b).T).float()

    def bias(self, site: Site) -> Closure:
        inner, outer = self.first, self.second

        def addend(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            query = site.q_pos[i] if site.q_pos.ndim == 1 else site.q_pos[b, i]
            share = self.share(site.distance(b, i, j).clamp(min=0), query)
            if h.ndim == 0:  # FlexAttention, one pair at a time, without matrix products
                units = (torch.relu(share * inner.weight[u, 0] + inner.bias[u]) for u in range(len(inner.bias)))
                return sum((outer.weight[h, u] * unit for u, unit in enumerate(units)), torch.zeros_like(share))
            if not torch.is_grad_enabled():
                knees, *lines = site.shared
                segment = torch.bucketize(share, knees).flatten().expand(h.numel(), -1)
                slopes, heights = (x[h.flatten()].gather(1, segment) for x in lines)
                heads = torch.addcmul(heights, slopes, share.flatten()).unflatten(1, share.shape).movedim(0, -3)
            else:
                with torch.autocast(share.device.type, enabled=False):
                    hidden = torch.relu(share[..., None] * inner.weight[:, 0] + inner.bias)
                    heads = F.linear(hidden, outer.weight[h.flatten()]).movedim(-1, -3)
            return heads.squeeze(1) if heads.ndim == 5 else heads  # 5 dimensions if positions are [B, T]

        return addend

    @torch.no_grad()
    def facts(self, case: Case) -> list[Fact]:
        def shares(distance: float, last: float) -> list[float]:
            end = torch.tensor(last)
            return [float(self.share(torch.tensor(d), end)) for d in (distance, 1.0)]

        before = shares(case.span - 1.0, case.places - 1.0)
        now = shares(case.reach, float(case.pairs[0][case.distances.argmax()]))
        what = f"input of the network, c = {digits(float(self.c))}"
        far = Fact(what, f"0–{digits(before[0])}", f"0–{digits(now[0])}: never above 1", {"farthest": now[0]})
        near = Fact("… for distance 1, last query", digits(before[1]), f"{digits(now[1])}: smaller as ℓ grows",
                    {"near": now[1]})  # fmt: skip
        return [*super().facts(case), far, near]
