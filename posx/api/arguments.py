"""Types of the arguments that several functions of the API take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posx.utils.console import Display
from posx.utils.progress import Progress

Overrides = Sequence[str] | Mapping[str, Any]  # ["train.steps=100"] or {"train.steps": 100}
OnProgress = Callable[[Progress], None] | Display | None
