"""Dual chunk attention: text in chunks of s tokens, and positions that never leave those trained.

    same chunk             i − j
    the chunk before       min(s + i mod s, L − 1) − j mod s
    chunks before that     L − 1 − j mod s

s is three quarters of L unless fixed. To the chunk before, the first L − s queries of a chunk are at their true
distance; up to L tokens all are.

Source: An et al. 2024, arXiv 2402.17463, section 3.
Trap: the released code divides L otherwise (chunks of 5/8 L, positions up to 3/4 L): ``dual-chunk(s=…, last=…)``.
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
    """``s`` tokens a chunk, None: 3/4 of L; queries stand at ``last`` at most, None: L − 1."""

    s: int | None = None
    last: int | None = None


class DualChunk(Extension):
    """Distances within chunks, to the chunk before, and to all others."""

    Config = DualChunkConfig
    changes = "distances"

    @classmethod
    def check(cls, config: Any) -> None:
        if config.s is not None and config.s < 1:
            raise PosxError(f"a chunk of s={config.s} tokens holds none.", "Give s of at least 1; 3/4 of L is usual.")
        if config.last is not None and config.last < (config.s or 1) - 1:
            raise PosxError(
                f"last={config.last} lies within a chunk of {config.s}.",
                "Give a last position from s on; L − 1 is usual.",
            )

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return [{}, {"s": max(1, target.context // 2)}]

    def resolved(self, target: Target) -> dict[str, Any]:
        s = self.config.s or max(1, math.floor(0.75 * target.context))
        last = target.context - 1 if self.config.last is None else self.config.last
        if s > last + 1:
            raise Unsupported(
                f"dual-chunk's chunks of {s} tokens are longer than the {last + 1} positions that there are.",
                f"Give s up to {last + 1}.",
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
