"""A sliding window: a query attends to itself and the last w − 1 tokens before it.

    j is seen  ⇔  0 ≤ i − j < w        w = L unless fixed

Works with every scheme. It is a control as much as an extension: it keeps distances inside those trained, and
through n layers information still travels n · (w − 1) + 1 tokens.
Trap: w counts the query itself; ``i − j <= w`` would keep w + 1 keys.
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
            raise PosxError(f"a window of w={config.w} keys sees nothing.", "Give w of at least 1.")

    def resolved(self, target: Target) -> dict[str, Any]:
        return {"w": self.config.w or target.context}

    def mask(self, target: Target) -> Mask | None:
        w = self.config.w or target.context
        return lambda b, h, i, j: i - j < w
