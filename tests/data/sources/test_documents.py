"""Tests of ``posx.data.sources`` that apply to every source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.corpora import text_data
from fixtures.source_files import read, refusal
from posx.data.sources import documents
from posx.errors import PosxError


@pytest.mark.parametrize(
    "bound, expected",
    [
        (None, ["one", "東京", "four", "x"]),
        (14, ["one", "東京", "four", "x"]),
        (13, ["one", "東京", "four"]),
        (12, ["one", "東京"]),
        (9, ["one", "東京"]),
        (8, ["one"]),
        (3, ["one"]),
        (2, ["on"]),
    ],
)
def test_max_bytes_limits_the_text_in_utf8(tmp_path: Path, bound: int | None, expected: list[str]) -> None:
    """Whole documents while they fit, and none after the first that does not fit."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in ("one", "東京", "four", "x")))
    assert read(path, max_bytes=bound) == expected


def test_no_more_documents_are_read_than_needed(tmp_path: Path) -> None:
    """Reading stops after the first document that does not fit. Later errors are not noticed."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n{"text": "two"}\n{"text": "three"}\nno JSON\n\xff')
    assert read(path, max_bytes=6) == ["one", "two"]
    (tmp_path / "b.txt").write_bytes(b"\xff")
    assert read(tmp_path, max_bytes=7) == ["one", "two"]
    texts = documents(text_data(path))
    assert [next(texts) for _ in range(3)] == ["one", "two", "three"]
    with pytest.raises(PosxError, match="line 4 is not JSON"):
        next(texts)


def test_a_first_document_past_max_bytes_is_cut_between_characters(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("東京東京", "utf-8")
    assert read(tmp_path, max_bytes=8) == ["東京"]


def test_white_space_does_not_count_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n\t")
    assert "contains no text" in refusal(tmp_path / "a.txt")
