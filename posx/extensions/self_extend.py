"""Self-Extend: near keys at their distance, far ones in groups that share a position.

    d = i − j < w:   d
    d ≥ w:           ⌊i / G⌋ − ⌊j / G⌋ + w − w / G

Unless fixed, w is a quarter of L, and G the smallest divisor of w that keeps all distances below L: 1 up to L, where
nothing changes.

Source: Jin et al. 2024, arXiv 2401.01325, section 3.2 (equations 3 and 4) and its released code, which rotates queries
by ⌊i / G⌋ + w − w / G.
Trap: distances stay below L up to (L − w) · G + w tokens, and are counted right where G divides w.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from posx.errors import PosxError, Unsupported
from posx.extensions.base import Branch, Extension, Target


@dataclass
class SelfExtendConfig:
    """``w`` keys are near (the query itself is one); the others stand in groups of ``G``."""

    w: int | None = None
    G: int | None = None


class SelfExtend(Extension):
    """Grouped positions for far keys."""

    Config = SelfExtendConfig
    changes = "distances"

    @classmethod
    def check(cls, config: Any) -> None:
        w, group = config.w, config.G
        if w is not None and w < 1:
            raise PosxError(f"w={w} keys are no neighbours.", "Give w of at least 1; a quarter of L is usual.")
        if group is not None and (group < 1 or (w is not None and w % group)):
            raise PosxError(f"G={group} must divide w{'' if w is None else f'={w}'}.", "Try w=16 and G=4.")

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return [{}, {"w": max(1, target.context // 2)}]

    def sizes(self, target: Target) -> tuple[int, int]:
        """w and G as they act at this length."""
        context, length = target.context, target.length
        w = self.config.w or max(1, context // 4)
        if self.config.G is not None:
            if w % self.config.G:
                raise Unsupported(
                    f"self-extend's G={self.config.G} does not divide w={w}.", f"Give w={4 * self.config.G} too."
                )
            return w, self.config.G
        if length <= context:
            return w, 1
        if w < context:
            least = -(-(length - w) // (context - w))  # (L − w) · G + w ≥ ℓ
            for group in range(least, w + 1):
                if w % group == 0:
                    return w, group
        middle = (context + 1) // 2
        most = (context - middle) * middle + middle
        raise Unsupported(
            f"self-extend with w={w} cannot keep the distances of {length} tokens below {context}.",
            f"w={middle} can."
            if length <= most
            else f"No w can beyond {most}; self-extend(w={middle}, G={middle}) lets them pass it.",
        )

    def resolved(self, target: Target) -> dict[str, Any]:
        w, group = self.sizes(target)
        return {"w": w, "G": group}

    def branches(self, target: Target) -> tuple[Branch, ...]:
        w, group = self.sizes(target)
        if group == 1:
            return ()
        return (
            Branch(
                lambda i: i // group + w - w // group,
                lambda j: j // group,
                lambda b, h, i, j: i - j >= w,
            ),
        )
