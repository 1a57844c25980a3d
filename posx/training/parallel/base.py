"""What computes the gradients of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from torch import Tensor

from posx.training.state import Session


@dataclass(frozen=True)
class Batch:
    """Windows of training: ``tokens`` and ``targets`` int64 [sequences, context], targets IGNORED where not scored.

    ``positions`` int64 [sequences, context]; None: 0 .. context − 1.
    """

    tokens: np.ndarray
    targets: np.ndarray
    positions: Tensor | None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice) -> Batch:
        positions = None if self.positions is None else self.positions[rows]
        return Batch(self.tokens[rows], self.targets[rows], positions)

    def cut(self, count: int) -> list[slice]:
        """``count`` parts of about the same size, in order."""
        return [slice(*ends) for ends in pairwise(len(self) * n // count for n in range(count + 1))]


class Parallel(Protocol):
    """One process, or several that share the work."""

    def gradients(self, session: Session, batch: Batch, scored: int) -> Tensor:
        """Nats of ``batch`` / ``scored``, on device; adds its gradients to those of the parameters.

        ``scored`` counts the targets of the whole optimizer step, of which ``batch`` may be a part.
        """
