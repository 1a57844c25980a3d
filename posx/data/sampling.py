"""Training windows: random slices of documents, a pure function of seed and step."""

from __future__ import annotations

import numpy as np

from posx.config.schema import IGNORED
from posx.data.corpus import Corpus, Split
from posx.errors import PosxError
from posx.utils.streams import batch_stream


class Slices:
    """Random windows of ``context`` tokens, each inside one document; every start is equally likely.

    A document shorter than a window is used whole and the rest of the window is masked. Documents are never joined.
    """

    def __init__(self, split: Split, context: int):
        self.split, self.context = split, context
        usable = split.lengths >= 2
        self.first = split.offsets[:-1][usable]
        self.end = split.offsets[1:][usable]
        starts = np.maximum(1, self.end - self.first - context)
        self.cumulative = np.cumsum(starts)

    def batch(self, seed: int, step: int, size: int, first: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets, int64 [size, context], of one step: a pure function of its arguments.

        Targets past a document's end are IGNORED; the inputs there are 0. With ``first`` [size], each window skips a
        random number of tokens of its document after its first ``first`` tokens.
        """
        random = batch_stream(seed, step)
        draw = random.integers(self.cumulative[-1], size=size)
        document = np.searchsorted(self.cumulative, draw, side="right")
        before = np.where(document > 0, self.cumulative[document - 1], 0)
        start = self.first[document] + draw - before
        offset = np.arange(self.context + 1)
        index = start[:, None] + offset
        if first is not None:
            remaining = np.maximum(0, self.end[document] - 1 - index[:, -1])
            index += random.integers(remaining + 1)[:, None] * (offset >= first[:, None])
        inside = index < self.end[document][:, None]
        ids = np.where(inside, self.split.tokens[np.where(inside, index, 0)].astype(np.int64), 0)
        return ids[:, :-1], np.where(inside[:, 1:], ids[:, 1:], IGNORED)


def check_long_enough(corpus: Corpus, context: int) -> None:
    """Raise PosxError if no training document is long enough for this context."""
    longest = int(corpus.splits["train"].lengths.max())
    if longest < context + 1:
        raise PosxError(
            f"train.context={context} requires windows of {context + 1} tokens, but the longest training document "
            f"has {longest}.",
            f"Set train.context to at most {longest - 1}, or use longer documents."
            if longest > 2
            else "Add more text.",
        )
