"""Dual chunk attention: text is split into chunks of s tokens, and distances stay within the trained range.

    same chunk           i − j
    previous chunk       min(s + i mod s, L − 1) − j mod s
    earlier chunks       L − 1 − j mod s

s is three quarters of L by default. In the previous chunk, the first L − s queries of a chunk have their true
distance. Up to L tokens, all distances are unchanged.

Source: An et al. 2024, arXiv 2402.17463, section 3.
Pitfall: the released code divides L differently (chunks of 5/8 L, positions up to 3/4 L): ``dual-chunk(s=…, last=…)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from posx.errors import PosxError, Unsupported
from posx.extensions.base import Branch, Extension, Target


@dataclass
class DualChunkConfig:
    """``s``: tokens per chunk, None: 3/4 of L; ``last``: largest position of a query, None: L − 1."""

    s: int | None = None
    last: int | None = None


class DualChunk(Extension):
    """Distances within chunks, to the previous chunk, and to earlier chunks."""

    Config = DualChunkConfig
    changes = "distances"

    @classmethod
    def check(cls, config: Any) -> None:
        if config.s is not None and config.s < 1:
            raise PosxError(f"s={config.s} must be at least 1.", "Omit it for 3/4 of L.")
        if config.last is not None and config.last < (config.s or 1) - 1:
            raise PosxError(
                f"last={config.last} must be at least s − 1 = {(config.s or 1) - 1}.",
                "Use a larger value, or omit it for L − 1.",
            )

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return [{}, {"s": max(1, target.context // 2)}]

    def resolved(self, target: Target) -> dict[str, Any]:
        s = self.config.s or max(1, math.floor(0.75 * target.context))
        last = target.context - 1 if self.config.last is None else self.config.last
        if s > last + 1:
            raise Unsupported(
                f"dual-chunk has chunks of {s} tokens, but only {last + 1} positions.",
                f"Use s up to {last + 1}.",
            )
        return {"s": s, "last": last}

    def branches(self, target: Target) -> tuple[Branch, ...]:
        s, last = self.resolved(target).values()
        return (
            Branch(
                lambda i: (i % s + s).clamp(max=last),
                lambda j: j % s,
                lambda b, h, i, j: i // s - j // s == 1,
            ),
            Branch(
                lambda i: torch.full_like(i, last),
                lambda j: j % s,
                lambda b, h, i, j: i // s - j // s > 1,
            ),
        )
