"""Biases that depend only on head and distance.

    logit(i, j) += f_h(i − j)

On a CPU, f is computed once per forward pass for every distance and looked up for each pair. On other devices it is
computed for each pair, because the longest distance is known only to the GPU, and reading it would force a
synchronization.
"""

from __future__ import annotations

import torch
from torch import Tensor

from posx.extensions.base import Applied
from posx.schemes.base import Closure, Scheme, Site


class DistanceBias(Scheme):
    """A bias that depends only on head and distance. Subclasses define it in :meth:`addend`."""

    bias_by_distance = True
    accepts = frozenset({"distances"})

    def addend(self, h: Tensor, distance: Tensor) -> Tensor:
        """f_h(distance) for heads ``h`` (int64, from 0) and distances ≥ 0 that broadcast against each other.

        It may only index and do elementwise arithmetic (see :meth:`posx.schemes.base.Scheme.bias`).
        """
        raise NotImplementedError

    def prepare(self, positions: Tensor, extension: Applied) -> Tensor | None:
        """float32 [H, longest + 1], the addend of each integer distance; None if there is no table."""
        if positions.is_floating_point() or positions.device.type != "cpu":
            return None
        distances = torch.arange(int(positions.max() - positions.min()) + 1)
        return self.addend(torch.arange(self.shape.n_heads)[:, None], distances).float()

    def bias(self, site: Site) -> Closure:
        if site.shared is not None:
            return lambda b, h, i, j: site.shared[h, site.distance(b, i, j).clamp(min=0)]
        return lambda b, h, i, j: self.addend(h, site.distance(b, i, j).clamp(min=0))
