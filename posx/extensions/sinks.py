"""Attention sinks: the first n keys and the last w are visible, at their distances in a cache that has only these keys.

    j is visible    ⇔  i − j < w  or  j < n
    its distance    i − j if that is below w;  to a sink min(i, n + w − 1) − j

By default n is 4 and w is L − n, so no distance is new to the model.

Source: Xiao et al. 2023, arXiv 2309.17453, section 3.2. Positions are those in the cache, not in the text.
Pitfall: n + w must be at most L, or distances leave the trained range. Schemes that do not support distances use only
the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from posx.errors import PosxError, Unsupported
from posx.extensions.base import Branch, Extension, Mask, Target


@dataclass
class SinksConfig:
    """``n``: number of sinks; ``w``: last keys, including the query itself, None: L − n."""

    n: int = 4
    w: int | None = None


class Sinks(Extension):
    """A window plus the first keys."""

    Config = SinksConfig
    changes = "mask"

    @classmethod
    def check(cls, config: Any) -> None:
        if config.n < 1 or (config.w is not None and config.w < 1):
            raise PosxError(
                f"n={config.n} and w={config.w}: both must be at least 1.",
                "The paper uses n=4; for no sinks, use window.",
            )

    def resolved(self, target: Target) -> dict[str, Any]:
        n, w = self.config.n, self.config.w or target.context - self.config.n
        if w < 1 or n + w > target.context:
            raise Unsupported(
                f"{n} sinks and a window of {w} exceed the training context of {target.context} tokens.",
                f"n + w must be at most {target.context}.",
            )
        return {"n": n, "w": w}

    def mask(self, target: Target) -> Mask | None:
        n, w = self.resolved(target).values()
        return lambda b, h, i, j: (i - j < w) | (j < n)

    def branches(self, target: Target) -> tuple[Branch, ...]:
        n, w = self.resolved(target).values()
        return (Branch(lambda i: i.clamp(max=n + w - 1), lambda j: j, lambda b, h, i, j: (j < n) & (i - j >= w)),)
