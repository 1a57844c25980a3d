"""Tests of ``posx.bench.synthetic_text``."""

from __future__ import annotations

import json
import math
from itertools import islice, pairwise
from pathlib import Path

from fixtures.measured import text  # noqa: F401 - a fixture
from posx.bench import synthetic_text as pseudotext


def test_generated_text_is_like_text() -> None:
    """A larger corpus starts with a smaller one, words are unique, and vocabulary grows as about the 0.55th power."""
    assert list(islice(pseudotext.documents(), 3)) == list(islice(pseudotext.documents(), 5))[:3]
    assert len({pseudotext.word(rank) for rank in range(200_000)}) == 200_000
    distinct: set[str] = set()
    total, seen = 0, {}
    for number, document in enumerate(islice(pseudotext.documents(), 256), start=1):
        words = document.lower().replace(".", "").split()
        distinct.update(words)
        total += len(words)
        seen[number] = (total, len(distinct))
    (few, fewer), (many, more) = seen[16], seen[256]
    assert 0.45 < math.log(more / fewer) / math.log(many / few) < 0.65


def test_a_corpus_has_the_requested_size(tmp_path: Path) -> None:
    told: list[int] = []
    pseudotext.write_corpus(tmp_path / "a.jsonl", 300_000, told.append)
    texts = [json.loads(line)["text"] for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    sizes = [len(text.encode()) for text in texts]
    assert sum(sizes[:-1]) < 300_000 <= sum(sizes)
    assert told[-1] == 300_000
    assert all(a < b for a, b in pairwise(told))
    assert len(set(texts)) == len(texts)
