"""Shaw: a learned vector for each distance, added to the key.

    logit(i, j) = q_i · (k_j + a_{min(i − j, clip)}) / √D

One table for each layer, shared by its heads. Only this key term is in, not the paper's vectors on the values, which it
found to add nothing (section 4.3).

Source: Shaw et al. 2018, arXiv 1803.02155, section 3.2, equations 3 and 4.
Parameters: layers · (clip + 1) · D. Cost: a product of each query with the table and one gather for each logit.
Trap: all distances from ``clip`` on look alike, and L − 1 of them at most are trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from posx.errors import PosxError
from posx.schemes.base import Closure, ModelShape, Scheme, Site


@dataclass
class ShawConfig:
    """``clip`` is the distance from which on all share a vector; None: 16, or L − 1 where that is shorter."""

    clip: int | None = None


class Shaw(Scheme):
    """Relative position representations."""

    Config = ShawConfig
    formula = "q·(k + a[min(d, clip)])/√D,  a trained table for each layer"
    bias_per_layer = True

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__(config, shape)
        self.table = nn.Parameter(torch.empty(shape.n_layers, self.clip + 1, shape.head_dim))

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.clip is not None and config.clip < 1:
            raise PosxError(f"scheme.clip={config.clip} tells no distances apart.", "The paper uses scheme.clip=16.")

    @property
    def clip(self) -> int:
        """The distance from which on all look alike."""
        return max(1, min(16, self.shape.context - 1)) if self.config.clip is None else int(self.config.clip)

    def bias(self, site: Site) -> Closure:
        assert site.q is not None
        with torch.autocast(site.q.device.type, enabled=False):
            rows = site.q.float() @ self.table[site.layer].T * site.q.shape[-1] ** -0.5  # [B, H, Tq, clip + 1]

        def added(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return rows[b, h, i, site.distance(b, i, j).round().long().clamp(0, self.clip)]

        return added
