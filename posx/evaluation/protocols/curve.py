"""curve: the windows of fixed targets, but every prediction counts, for the loss by position in the window."""

from __future__ import annotations

from dataclasses import replace

from posx.evaluation.protocols.base import Windows
from posx.evaluation.protocols.fixed_targets import FixedTargets
from posx.utils.files import sha256_of


class Curve(FixedTargets):
    """Whole windows."""

    name = "curve"

    def windows(self, length: int) -> Windows:
        windows = super().windows(length)
        return replace(windows, scored=windows.lengths)

    def sha256(self, length: int) -> str:
        return sha256_of(super().sha256(length), self.name, length)
