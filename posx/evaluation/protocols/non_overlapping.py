"""non-overlapping: each document is cut into windows, and every token is scored, including a shorter last window."""

from __future__ import annotations

import numpy as np

from posx.data.corpus import Split
from posx.evaluation.protocols.base import Protocol, Windows, cut


class NonOverlapping(Protocol):
    """Adjacent windows in each document."""

    name = "non-overlapping"

    def windows(self, length: int) -> Windows:
        return non_overlapping(self.split, length)


def non_overlapping(split: Split, length: int) -> Windows:
    """Each document cut into windows of ``length``; every token but a document's first is scored."""
    parts = [cut(int(a), int(b), length) for a, b in zip(split.offsets[:-1], split.offsets[1:], strict=True)]
    starts, lengths = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    documents = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    return Windows(starts, lengths, lengths, documents)
