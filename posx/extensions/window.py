"""A sliding window: a query attends to itself and to the w − 1 tokens before it.

    j is visible  ⇔  0 ≤ i − j < w        w = L by default

Works with every scheme that has logits. It is a control as well as an extension: distances stay in the trained range,
but through n layers information still travels n · (w − 1) + 1 tokens.
Pitfall: w includes the query itself; ``i − j <= w`` would give w + 1 keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from posx.errors import PosxError
from posx.extensions.base import Extension, Mask, Target


@dataclass
class WindowConfig:
    """``w`` None: the base context L."""

    w: int | None = None


class Window(Extension):
    """Sliding-window attention mask."""

    Config = WindowConfig
    changes = "mask"

    @classmethod
    def check(cls, config: Any) -> None:
        if config.w is not None and config.w < 1:
            raise PosxError(f"window w={config.w} must be at least 1.", "Omit it for the base context.")

    def resolved(self, target: Target) -> dict[str, Any]:
        return {"w": self.config.w or target.context}

    def mask(self, target: Target) -> Mask | None:
        w = self.config.w or target.context
        return lambda b, h, i, j: i - j < w
