"""Splits of documents into training, validation and test."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator

import numpy as np

from posx.data.spool import Spool
from posx.errors import PosxError

SPLITS = ("train", "validation", "test")
HELD_OUT = 0.10  # fraction of the bytes in each held-out split
MIN_DOCUMENTS = 20  # fewer documents are first cut into pieces


def split_documents(texts: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Like :func:`split`, for texts that fit in memory."""
    spool = Spool(io.BytesIO(), texts)
    splits, notes = split(spool)
    return {name: list(spool.texts(part)) for name, part in splits.items()}, notes


def split(spool: Spool) -> tuple[dict[str, np.ndarray], list[str]]:
    """Indices of documents by split, and notes on removed duplicates and cuts. May append pieces to the spool.

    Duplicates count once. Documents are sorted by a hash of their content and assigned to test, then to validation,
    until each has 10% of the bytes and at least two documents; the rest is for training. Fewer than 20 documents are
    first cut into contiguous pieces.
    """
    notes = []
    count = len(spool)
    ordered = spool.distinct()
    if len(ordered) < count:
        notes.append(f"{count - len(ordered)} documents were exact copies of others and were left out.")
    if len(ordered) < MIN_DOCUMENTS:
        few = np.sort(ordered)  # in their original order
        total = sum(map(len, spool.texts(few)))
        for text in spool.texts(few):
            for piece in _pieces(text, total):
                spool.append(piece)
        ordered = spool.distinct(count)
        notes.append(
            f"The corpus has only {len(few)} document{'s' * (len(few) > 1)}: cut into {len(ordered)} contiguous "
            "pieces, so that training and test text come from the same documents."
        )
    sizes = spool.sizes(ordered).tolist()
    minimum = HELD_OUT * sum(sizes)
    splits: dict[str, np.ndarray] = {}
    taken = 0
    for name in ("test", "validation"):
        first, size = taken, 0
        while taken < len(ordered) and (size < minimum or taken - first < 2):
            size += sizes[taken]
            taken += 1
        splits[name] = ordered[first:taken]
    splits["train"] = ordered[taken:]
    if not len(splits["train"]):
        raise PosxError(
            f"A corpus of {sum(sizes)} bytes in {len(ordered)} pieces leaves nothing to train on.",
            "Add more text, or more documents of similar size.",
        )
    return splits, notes


def _pieces(text: str, total: int) -> Iterator[str]:
    """Cut a document at white space, so that all documents (``total`` characters) give about MIN_DOCUMENTS pieces."""
    parts = -(-len(text) * MIN_DOCUMENTS // total)
    start = 0
    for part in range(1, parts + 1):
        end = len(text) * part // parts
        # Cut at the next white space, if there is any nearby. Some scripts have none.
        gap = re.search(r"\s", text[end - 1 : end + len(text) // (4 * parts)]) if part < parts else None
        end += gap.start() if gap else 0
        if text[start:end].strip():
            yield text[start:end]
        start = max(start, end)
