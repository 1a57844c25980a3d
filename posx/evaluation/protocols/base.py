"""The interface of a protocol, which selects the tokens that are scored at a length.

A window has ``length`` input tokens at positions 0 .. length − 1, and one more token as the last target. Its last
``scored`` predictions count. Windows do not cross the boundaries of documents, unless the protocol allows it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from posx.config.schema import EvalConfig
from posx.data.corpus import Corpus, Split
from posx.utils.files import sha256_of


@dataclass(frozen=True)
class Windows:
    """The windows of one evaluation cell, in the order of the text.

    ``starts`` int64 [n]: index of the first input token; ``lengths`` int64 [n]: input tokens; ``scored`` int64
    [n]: how many of the last predictions count; ``documents`` int64 [n] (of the first scored target).
    """

    starts: np.ndarray
    lengths: np.ndarray
    scored: np.ndarray
    documents: np.ndarray


class Protocol(ABC):
    """A protocol on the text of one corpus."""

    name: str
    targets: Any = None  # the TargetSet that all lengths share, if there is one

    def __init__(self, corpus: Corpus, config: EvalConfig, base_context: int):
        """``config`` is complete (``posx.config.lengths.comparable``). Raises PosxError if the text is too short."""
        self.corpus, self.config = corpus, config

    @property
    def split(self) -> Split:
        """The text that is scored."""
        return self.corpus.splits[self.config.split]

    @abstractmethod
    def windows(self, length: int) -> Windows:
        """The windows at ``length`` tokens."""

    def sha256(self, length: int) -> str:
        """A hash of the targets: equal if and only if the same tokens are scored."""
        corpus = self.corpus
        return sha256_of(corpus.sha256, corpus.tokenizer_sha256, self.config.split, self.name)


def cut(first: int, end: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of windows over tokens [first, end): the last one may be shorter."""
    starts = np.arange(first, end - 1, length, dtype=np.int64)
    return starts, np.minimum(length, end - 1 - starts)
