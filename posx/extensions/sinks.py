"""Attention sinks: the first n keys and the last w, at the distances of a cache that holds no others.

    j is seen    ⇔  i − j < w  or  j < n
    its distance    i − j where that is below w;  to a sink min(i, n + w − 1) − j

n is 4 and w is L − n unless fixed: no distance is new to the model.

Source: Xiao et al. 2023, arXiv 2309.17453, section 3.2. Positions are those in the cache, not in the text.
Trap: n + w ≤ L, or distances leave the trained ones. A scheme that knows no distances is only given the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from posx.errors import PosxError, Unsupported
from posx.extensions.base import Branch, Extension, Mask, Target


@dataclass
class SinksConfig:
    """``n`` sinks and the last ``w`` keys, None: L − n; w counts the query itself."""

    n: int = 4
    w: int | None = None


class Sinks(Extension):
    """A window, and the first keys."""

    Config = SinksConfig
    changes = "mask"

    @classmethod
    def check(cls, config: Any) -> None:
        if config.n < 1 or (config.w is not None and config.w < 1):
            raise PosxError(
                f"n={config.n} sinks and w={config.w} keys: both must be at least 1.",
                "The paper uses n=4; without sinks it is window.",
            )

    def resolved(self, target: Target) -> dict[str, Any]:
        n, w = self.config.n, self.config.w or target.context - self.config.n
        if w < 1 or n + w > target.context:
            raise Unsupported(
                f"{n} sinks and a window of {w} are more than the {target.context} tokens of the training context.",
                f"Give n and w that add up to {target.context} at most.",
            )
        return {"n": n, "w": w}

    def mask(self, target: Target) -> Mask | None:
        n, w = self.resolved(target).values()
        return lambda b, h, i, j: (i - j < w) | (j < n)

    def branches(self, target: Target) -> tuple[Branch, ...]:
        n, w = self.resolved(target).values()
        return (Branch(lambda i: i.clamp(max=n + w - 1), lambda j: j, lambda b, h, i, j: (j < n) & (i - j >= w)),)
