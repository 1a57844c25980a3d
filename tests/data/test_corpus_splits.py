"""Tests of ``posx.data.splitting``."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.corpora import many
from fixtures.texts import digest, size
from posx.data.splitting import split_documents
from posx.errors import PosxError


def joined(splits: dict[str, list[str]]) -> list[str]:
    return list(chain.from_iterable(splits.values()))


@given(
    lengths=st.lists(st.integers(1, 400), min_size=20, max_size=60),
    draw=st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_held_out_splits_are_as_small_as_allowed(lengths: list[int], draw: object) -> None:
    """Each has 10% of the bytes and two documents, in the order of the sha256 of their content."""
    texts = [f"{n} " + "é" * length for n, length in enumerate(lengths)]
    ordered = sorted(texts, key=digest)
    draw.shuffle(texts)  # type: ignore[attr-defined]
    try:
        splits, notes = split_documents(texts)
    except PosxError:
        # Only if nothing is left: all but one document are not enough for two held-out splits.
        assert size(ordered[:-1]) * 10 < 2 * size(ordered) + 10 * max(map(len, map(str.encode, texts)))
        return
    assert notes == []
    assert splits["test"] + splits["validation"] + splits["train"] == ordered
    for name in ("test", "validation"):
        held = splits[name]
        assert len(held) >= 2
        assert 10 * size(held) >= size(texts)
        assert len(held) == 2 or 10 * size(held[:-1]) < size(texts), "one document less would be enough"
    assert splits["train"]


def test_duplicates_count_once_and_give_a_note() -> None:
    texts = many(30)
    splits, notes = split_documents(texts + texts[:3] + texts[:1])
    assert splits == split_documents(texts)[0]
    assert len(notes) == 1
    assert notes[0].startswith("4 ")
    assert "copies" in notes[0]


def test_twenty_documents_are_not_cut() -> None:
    texts = many(20)
    splits, notes = split_documents(texts)
    assert sorted(joined(splits)) == sorted(texts)
    assert notes == []


@pytest.mark.parametrize("count", [1, 2, 3, 7, 19])
def test_few_documents_are_cut_into_contiguous_pieces(count: int) -> None:
    """Joined in order, the pieces give the text. A note describes the cuts."""
    texts = [" ".join(f"w{n}-{k}" for k in range(200 + 37 * n)) + " " for n in range(count)]
    splits, notes = split_documents(texts)
    pieces = joined(splits)
    assert 20 <= len(pieces) <= 20 + count
    for text in texts:
        # All words differ, so that a piece occurs only once.
        parts = sorted((piece for piece in pieces if piece in text), key=text.index)
        assert "".join(parts) == text
        assert all(piece[-1].isspace() for piece in parts), "cuts are after white space"
    sizes = [size([piece]) for piece in pieces]
    assert max(sizes) < 2.5 * sum(sizes) / len(sizes)
    (note,) = notes
    for part in (f"only {count} document", f"{len(pieces)} contiguous pieces", "same documents"):
        assert part in note


def test_text_without_white_space_is_cut() -> None:
    """Chinese and Japanese have none."""
    text = "".join(chr(0x4E00 + (n * 7919) % 5003) for n in range(3000))  # all characters differ
    splits, _ = split_documents([text])
    pieces = joined(splits)
    assert "".join(sorted(pieces, key=text.index)) == text
    assert min(map(len, splits.values())) >= 2


def test_too_little_text_is_refused() -> None:
    with pytest.raises(PosxError, match="nothing to train on"):
        split_documents(["word"])
