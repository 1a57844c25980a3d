"""Transformer-XL: sinusoids of the distance as additional keys, and two learned biases of the queries.

    logit(i, j) = ( (q_i + u) · k_j + (q_i + v) · W r_{i−j} ) / √D        r_d = [sin(d·θ) ; cos(d·θ)]

W is a matrix [H · D, C] of each layer; u and v [H, D] are shared by all layers.

Source: Dai et al. 2019, arXiv 1901.02860, section 3.3. Sines and cosines form two halves, and u and v are shared
("untie_r" off), as in the released code. The memory of previous segments is not included: posx processes whole
contexts.
Shapes: W [layers, H · D, C], u and v [H, D], r [T, C]; the addend [B, H, Tq, Tk], float32.
Parameters: layers · H · D · C + 2 · H · D. Cost: a second product of queries and keys, and a gather per logit.
Pitfall: the released code computes products with all r at once and shifts the rows; the last column of a row belongs
to d = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from posx.extensions.base import Applied
from posx.schemes.base import Closure, ModelShape, Scheme, Site, entries
from posx.schemes.facts import Case, Fact, distances_fact, turning_facts


@dataclass
class TransformerXLConfig:
    """``base``: determines the longest wavelength."""

    base: float = 10000.0


class TransformerXL(Scheme):
    """Relative positions of Transformer-XL."""

    Config = TransformerXLConfig
    outlook = (
        "Its authors evaluate with longer attention than in training and gain from it (Dai et al. 2019, section 4); "
        "that relies on the memory of earlier segments, which posx does not have."
    )
    bias_per_layer = True
    accepts = frozenset({"distances"})

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__(config, shape)
        width = shape.n_heads * shape.head_dim
        self.w = nn.Parameter(torch.empty(shape.n_layers, width, shape.d_model))
        self.u = nn.Parameter(torch.empty(shape.n_heads, shape.head_dim))
        self.v = nn.Parameter(torch.empty(shape.n_heads, shape.head_dim))

    def prepare(self, positions: Tensor, extension: Applied) -> Tensor:
        """r_d of every distance, float32 [longest + 1, C]."""
        longest = int((positions.max() - positions.min()).round())
        distances = torch.arange(longest + 1, device=positions.device, dtype=torch.float32)
        angles = distances[:, None] * self.waves(positions.device)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, : self.shape.d_model]

    def waves(self, device: torch.device | None = None) -> Tensor:
        """θ_k, float32 [C / 2]."""
        even = torch.arange(0, self.shape.d_model, 2, device=device, dtype=torch.float32)
        return self.config.base ** (-even / self.shape.d_model)

    def facts(self, case: Case) -> list[Fact]:
        theta = self.waves()
        return [distances_fact(case), *turning_facts(theta, theta, case.span, case.reach)]

    def bias(self, site: Site) -> Closure:
        assert site.q is not None
        assert site.k is not None
        heads, width = self.u.shape
        keys = (site.shared[: 1 + self.furthest(site)] @ self.w[site.layer].T).unflatten(-1, (heads, width))
        with torch.autocast(site.q.device.type, enabled=False):
            content = torch.einsum("hd,bhjd->bhj", self.u, site.k.float()) * width**-0.5
        queries = (site.q + self.v[:, None].to(site.q.dtype)) * width**-0.5
        rows = torch.einsum("bhid,nhd->bhin", queries, keys.to(queries.dtype)).float()

        def addend(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            distance = site.distance(b, i, j).round().long().clamp(min=0)
            return content[b, h, j] + entries(rows, b, h, i, distance)

        return addend

    @staticmethod
    def furthest(site: Site) -> int:
        """The longest distance between these queries and keys."""
        return max(0, int((site.q_pos.max() - site.k_pos.min()).round()))
