"""stream: all documents are joined into one stream, which is cut into windows (Press et al. 2021, table 2)."""

from __future__ import annotations

import numpy as np

from posx.data.corpus import Split
from posx.evaluation.protocols.base import Protocol, Windows, cut


class Stream(Protocol):
    """Windows that cross the boundaries of documents."""

    name = "stream"

    def windows(self, length: int) -> Windows:
        return stream(self.split, length)


def stream(split: Split, length: int) -> Windows:
    """All documents as one stream, cut into windows of ``length``; every token but the first is scored."""
    starts, lengths = cut(0, int(split.offsets[-1]), length)
    documents = np.searchsorted(split.offsets, starts + 1, side="right") - 1
    return Windows(starts, lengths, lengths, documents)
