"""Documents of a corpus during its build, stored in a file so that memory use does not grow with the text."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np


class Spool:
    """Documents in a file, in the order in which they were added. Uses 40 bytes of memory per document."""

    def __init__(self, file: BinaryIO, texts: Iterable[str]):
        self.file = file
        self.hashes = bytearray()  # sha256, 32 bytes per document
        self.offsets = array("q", [0])  # [documents + 1], bytes
        for text in texts:
            self.append(text)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def append(self, text: str) -> None:
        """Add a document."""
        content = text.encode()
        self.file.seek(self.offsets[-1])
        self.file.write(content)
        self.offsets.append(self.offsets[-1] + len(content))
        self.hashes += hashlib.sha256(content).digest()

    def content(self, index: int) -> bytes:
        """The UTF-8 bytes of a document."""
        self.file.seek(self.offsets[index])
        return self.file.read(self.offsets[index + 1] - self.offsets[index])

    def texts(self, indices: Iterable[int]) -> Iterator[str]:
        """The documents with these indices, read lazily."""
        return (self.content(index).decode() for index in indices)

    def sizes(self, indices: np.ndarray) -> np.ndarray:
        """Sizes of these documents in UTF-8 bytes, int64."""
        offsets = np.array(self.offsets)
        return offsets[indices + 1] - offsets[indices]

    def distinct(self, first: int = 0) -> np.ndarray:
        """Indices of documents from ``first`` on, sorted by hash. Of duplicates, only the earliest is returned."""
        hashes = np.frombuffer(self.hashes, ">u8").reshape(-1, 4)[first:].astype(np.uint64)
        order = np.lexsort(hashes.T[::-1])  # a stable sort: duplicates stay in their order
        hashes = hashes[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (hashes[1:] != hashes[:-1]).any(axis=1)
        return order[new] + first
