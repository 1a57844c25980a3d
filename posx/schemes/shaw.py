"""Shaw: a learned vector per distance, added to the key; with ``scheme.values`` another one is added to the value.

    logit(i, j) = q_i · (k_j + a_n) / √D        n = min(i − j, clip)
    z_i = Σ_j α_ij (v_j + a'_n)                 α the softmax of the logits

Each layer has one table, shared by its heads. The value term is off by default: the paper found no benefit from it
(section 4.3).

Source: Shaw et al. 2018, arXiv 1803.02155, section 3.2, equations 3 and 4.
Shapes: a [layers, clip + 1, D]; the addend [B, H, Tq, Tk], float32.
Parameters: layers · (clip + 1) · D, twice that with values. Cost: a product of each query with the table and one gather
per logit; with values, also the logits of all pairs, in blocks of queries. Their weights are summed by n,
[.., clip + 1], before the product with the table, so that no tensor of size Tq · Tk · D is needed.
Pitfall: all distances from ``clip`` on share a vector, and at most L − 1 distances are trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from posx.errors import PosxError
from posx.schemes.base import Closure, ModelShape, Scheme, Site, entries
from posx.schemes.facts import Case, Fact, are_new, shared_fact


@dataclass
class ShawConfig:
    """``clip``: distance from which on all share a vector, None: min(16, L − 1); ``values``: add to the values too."""

    clip: int | None = None
    values: bool = False


class Shaw(Scheme):
    """Relative position representations."""

    Config = ShawConfig
    outlook = (
        "Its authors expected clipping to help at lengths unseen in training (section 3.2), but did not measure it: "
        "order beyond the clip is lost at any length."
    )
    bias_per_layer = True
    accepts = frozenset({"distances"})

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__(config, shape)
        self.table = nn.Parameter(torch.empty(shape.n_layers, self.clip + 1, shape.head_dim))
        if config.values:
            self.value_table = nn.Parameter(torch.empty_like(self.table))

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.clip is not None and config.clip < 1:
            raise PosxError(f"scheme.clip={config.clip} must be at least 1.", "The paper uses scheme.clip=16.")

    @property
    def clip(self) -> int:
        """The distance from which on all share a vector."""
        return max(1, min(16, self.shape.context - 1)) if self.config.clip is None else int(self.config.clip)

    @property
    def has_values(self) -> bool:
        return bool(self.config.values)

    def row(self, site: Site, b: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """n, the row of the table for query i and key j."""
        return site.distance(b, i, j).round().long().clamp(0, self.clip)

    def bias(self, site: Site) -> Closure:
        assert site.q is not None
        with torch.autocast(site.q.device.type, enabled=False):
            rows = site.q.float() @ self.table[site.layer].T * site.q.shape[-1] ** -0.5  # [B, H, Tq, clip + 1]
        return lambda b, h, i, j: entries(rows, b, h, i, self.row(site, b, i, j))

    def values(self, weights: Tensor, site: Site) -> Tensor:
        batch, _, n_queries, n_keys = weights.shape
        b, i, j = (torch.arange(n, device=weights.device) for n in (batch, n_queries, n_keys))
        rows = self.row(site, b[:, None, None, None], i[:, None], j).expand(weights.shape)
        # A running sum of 16,384 equal weights is off by 4e-4 in float32.
        zeros = weights.new_zeros(*weights.shape[:-1], self.clip + 1, dtype=torch.float64)
        return zeros.scatter_add(-1, rows, weights.double()).float() @ self.value_table[site.layer]

    def facts(self, case: Case) -> list[Fact]:
        facts = [*super().facts(case), shared_fact("keys that share the last vector", self.clip, case)]
        if self.clip >= case.span:
            new = max(0, min(self.clip, int(case.reach)) - case.span + 1)
            facts.append(
                Fact("rows of the table", f"{case.span} of {self.clip + 1} trained", are_new(new), {"new": new})
            )
        return facts
