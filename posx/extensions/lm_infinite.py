"""LM-Infinite: only the first n and the last w keys are visible, and distances are at most L.

    j is visible    ⇔  j < n  or  i − j < w
    its distance    min(i − j, L)

By default n is 10 and w is L.

Source: Han et al. 2023, arXiv 2308.16137, section 4 (the Λ-shaped mask and the distance limit; n from 10 to 100).
Pitfall: unlike in sinks, whose distances are those of a cache, all distant keys have the same distance here. If the
limit is below w, the released code leaves near keys beyond it unchanged; the paper's min(d, limit) does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from posx.errors import PosxError
from posx.extensions.base import Branch, Extension, Mask, Target


@dataclass
class LMInfiniteConfig:
    """``n``: first keys; ``w``: last keys including the query, None: L; ``limit`` of distances, None: L."""

    n: int = 10
    w: int | None = None
    limit: int | None = None


class LMInfinite(Extension):
    """A Λ-shaped mask and a distance limit."""

    Config = LMInfiniteConfig
    changes = "mask"

    @classmethod
    def check(cls, config: Any) -> None:
        for name in ("n", "w", "limit"):
            value = getattr(config, name)
            if value is not None and value < 1:
                raise PosxError(f"{name}={value} must be at least 1.", "The paper uses n=10, and L for w and limit.")

    def resolved(self, target: Target) -> dict[str, Any]:
        return {
            "n": self.config.n,
            "w": self.config.w or target.context,
            "limit": self.config.limit or target.context,
        }

    def mask(self, target: Target) -> Mask | None:
        n, w, _ = self.resolved(target).values()
        return lambda b, h, i, j: (i - j < w) | (j < n)

    def branches(self, target: Target) -> tuple[Branch, ...]:
        _, _, limit = self.resolved(target).values()
        return (
            Branch(
                lambda i: torch.full_like(i, limit),
                lambda j: torch.zeros_like(j),
                lambda b, h, i, j: i - j > limit,
            ),
        )
