"""ReRoPE: distances are at most w; leaky: beyond w, distances grow k times more slowly.

    rerope        d → min(d, w)
    leaky-rerope  d → d below w, else w + (d − w) / k

By default w is half of L, and k is the smallest value that keeps all distances below L. Up to L, k is 1 and
leaky-rerope changes nothing.

Source: Su Jianlin 2023, kexue.fm/archives/9708 (ReRoPE and Leaky ReRoPE).
Pitfall: the public code also multiplies queries by log-n; here that is ``rerope+log-n``. At L, ReRoPE still changes
all distances from w on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from posx.errors import PosxError
from posx.extensions.base import Branch, Extension, Target


@dataclass
class ReRopeConfig:
    """``w`` None: L / 2."""

    w: int | None = None


class ReRope(Extension):
    """Rectified distances."""

    Config = ReRopeConfig
    changes = "distances"

    @classmethod
    def check(cls, config: Any) -> None:
        if config.w is not None and config.w < 1:
            raise PosxError(f"w={config.w} must be at least 1.", "Omit it for L / 2.")

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return [{}, {"w": max(1, target.context // 4)}, {"w": max(1, target.context - 1)}]

    def w(self, target: Target) -> int:
        """The distance up to which distances are unchanged."""
        return self.config.w or max(1, target.context // 2)

    def resolved(self, target: Target) -> dict[str, Any]:
        return {"w": self.w(target)}

    def branches(self, target: Target) -> tuple[Branch, ...]:
        w = self.w(target)
        return (Branch(lambda i: torch.full_like(i, w), lambda j: torch.zeros_like(j), lambda b, h, i, j: i - j >= w),)


@dataclass
class LeakyReRopeConfig(ReRopeConfig):
    """If ``k`` is None: (ℓ − 1 − w) / (L − 1 − w) for ℓ > L, else 1."""

    k: float | None = None


class LeakyReRope(ReRope):
    """Distances that grow more slowly from w on."""

    Config = LeakyReRopeConfig

    @classmethod
    def check(cls, config: Any) -> None:
        super().check(config)
        if config.k is not None and not 1 <= config.k < math.inf:
            raise PosxError(f"k={config.k:g} must be at least 1 and finite.", "Omit it to derive it from ℓ / L.")

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return [{}, {"w": max(1, target.context // 4)}]

    def k(self, target: Target) -> float:
        """The factor by which distances beyond w grow more slowly."""
        if self.config.k is not None:
            return float(self.config.k)
        w = self.w(target)
        return max(1.0, (target.length - 1 - w) / max(1, target.context - 1 - w)) if target.scale > 1 else 1.0

    def resolved(self, target: Target) -> dict[str, Any]:
        return {"w": self.w(target), "k": self.k(target)}

    def branches(self, target: Target) -> tuple[Branch, ...]:
        w, k = self.w(target), self.k(target)
        if k == 1:
            return ()
        return (Branch(lambda i: i / k + (w - w / k), lambda j: j / k, lambda b, h, i, j: i - j >= w),)
