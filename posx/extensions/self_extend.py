"""Self-Extend: near keys keep their distance; distant keys form groups that share a position.

    d = i − j < w:   d
    d ≥ w:           ⌊i / G⌋ − ⌊j / G⌋ + w − w / G

By default w is a quarter of L, and G is the smallest divisor of w that keeps all distances below L. Up to L, G is 1
and nothing changes.

Source: Jin et al. 2024, arXiv 2401.01325, section 3.2 (equations 3 and 4) and the released code, which rotates queries
by ⌊i / G⌋ + w − w / G.
Pitfall: distances stay below L only up to (L − w) · G + w tokens, and are consistent only if G divides w.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from posx.errors import PosxError, Unsupported
from posx.extensions.base import Branch, Extension, Target


@dataclass
class SelfExtendConfig:
    """``w``: number of near keys, including the query itself; ``G``: size of the groups of other keys."""

    w: int | None = None
    G: int | None = None


class SelfExtend(Extension):
    """Grouped positions for distant keys."""

    Config = SelfExtendConfig
    changes = "distances"

    @classmethod
    def check(cls, config: Any) -> None:
        w, group = config.w, config.G
        if w is not None and w < 1:
            raise PosxError(f"w={w} must be at least 1.", "Omit it for a quarter of L.")
        if group is not None and (group < 1 or (w is not None and w % group)):
            raise PosxError(f"G={group} must divide w{'' if w is None else f'={w}'}.", "Try w=16 and G=4.")

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return [{}, {"w": max(1, target.context // 2)}]

    def sizes(self, target: Target) -> tuple[int, int]:
        """The effective w and G at this length."""
        context, length = target.context, target.length
        w = self.config.w or max(1, context // 4)
        if self.config.G is not None:
            if w % self.config.G:
                raise Unsupported(
                    f"self-extend's G={self.config.G} does not divide w={w}.", f"Add w={4 * self.config.G}."
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
        longest = (context - middle) * middle + middle
        raise Unsupported(
            f"self-extend with w={w} cannot keep the distances of {length} tokens below {context}.",
            f"Use w={middle}."
            if length <= longest
            else f"No w can beyond {longest}; self-extend(w={middle}, G={middle}) allows longer distances.",
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
