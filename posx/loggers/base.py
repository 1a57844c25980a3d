"""Protocol of loggers, which receive metrics from the training loop."""

from __future__ import annotations

from typing import Any, Protocol


class Logger(Protocol):
    """Stores the metrics of one run, in the order of its steps."""

    def log(self, metrics: dict[str, Any], step: int) -> None:
        """Store the metrics of ``step``, the number of steps done. Values are numbers, or None where not finite."""

    def close(self) -> None:
        """Called once, when training ends or fails."""
