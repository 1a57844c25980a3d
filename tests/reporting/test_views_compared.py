"""Tests of ``posx.reporting.views``: compared."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from fixtures.compare import (
    pair,
    shelf,  # noqa: F401
)
from fixtures.models import posx
from fixtures.records import ALIBI, FEW, ROPE, Shelf, by_document, hardness
from fixtures.stored_records import record, stored
from posx.reporting.formats.terminal import show_page
from posx.reporting.views import comparison as compared_page
from posx.results.compare import differences
from posx.results.query import find_row


def test_the_table_shows_difference_interval_change_and_verdict(shelf: Shelf) -> None:
    pair(shelf, {64: (-0.2, 0.05), 256: (0.3, 0.05)})
    result = posx("compare", "rope", "alibi", "--runs-dir", shelf.folder)
    text = " ".join(result.stdout.split())
    base = sum(float(hardness(seed).mean()) for seed in range(3)) / 3
    assert "A = rope, B = alibi: paired difference in nats/token" in text
    assert "sotu, fixed-targets, test split, 128 targets in 24 documents" in text
    rows = [[p.strip() for p in line.split("│")[1:-1]] for line in result.stdout.splitlines() if line.startswith("│")]
    # exp(−0.2) − 1 = −18.1%, exp(0.3) − 1 = 35.0%.
    for row, length, gap, change, verdict in (
        (rows[0], 64, -0.2, "-18.1%", "A is better"),
        (rows[1], 256, 0.3, "+35.0%", "B is better"),
    ):
        assert row[0] == f"{length} ({length // 64}x)"
        assert row[1:3] == [f"{base + length / 640 + gap:.3f}", f"{base + length / 640:.3f}"]
        found = re.fullmatch(r"([+-]\d\.\d{3}) \[([+-]\d\.\d{3}), ([+-]\d\.\d{3})\]", row[3])
        assert found is not None
        assert float(found[1]) == gap
        assert float(found[2]) < gap < float(found[3])
        assert row[4:] == [change, verdict]
    assert len(rows) == 2
    (heads,) = [line for line in result.stdout.splitlines() if line.startswith("┃")]
    assert [part.strip() for part in heads.split("┃")[1:-1]] == [
        *("length", "A", "B", "A − B, 95% interval", "ppl", "verdict")
    ]
    assert "Seeds in common: 0, 1, 2." in result.stdout
    assert "ppl: the change in perplexity." in result.stdout
    assert "A is better if it is negative" in text
    assert "One seed" not in text
    assert "too few" not in text
    assert "Next: posx table" in result.stderr


def test_one_seed_and_few_documents_give_warnings(shelf: Shelf) -> None:
    shelf.put(hardness(0, FEW), FEW, **ROPE)
    shelf.put(hardness(0, FEW) + by_document(0.1, 0.02, FEW), FEW, **ALIBI)
    text = posx("compare", "rope", "alibi", "--runs-dir", shelf.folder).stdout
    assert "One seed: intervals cover document sampling, not training variance." in text
    assert "Only 7 documents: too few for reliable intervals" in text


def test_records_without_losses_have_numbers_without_intervals(tmp_path: Path) -> None:
    alibi = {"label": "alibi", "run": "alibi", "config_sha256": "55" * 32}
    runs = stored(tmp_path, record(5.0), record(5.25, **alibi))
    text = posx("compare", "rope", "alibi", "--runs-dir", runs).stdout
    assert "-0.250" in text
    assert "No intervals: the losses of single targets are missing" in text
    for word in ("One seed: the intervals", "too few for intervals", "simultaneous"):
        assert word not in text, "it speaks of intervals that are not there"
    (one,) = json.loads(posx("compare", "rope", "alibi", "--json", "--runs-dir", runs).stdout)
    assert (one["difference"], one["interval"], one["verdict"]) == (pytest.approx(-0.25), None, "")


def test_the_caption_lists_targets_and_documents_of_every_set(shelf: Shelf) -> None:
    """64 has 24 documents, 1024 has 7: the caption lists both, and 7 give a warning."""
    pair(shelf, {64: (0.1, 0.02)}, seeds=1)
    own = {"targets_sha256": "66" * 32, "target_context": 1024, "length": 1024}
    shelf.put(hardness(0, FEW), FEW, **own, **ROPE)
    shelf.put(hardness(0, FEW) + by_document(0.1, 0.02, FEW), FEW, **own, **ALIBI)
    text = posx("compare", "rope", "alibi", "--runs-dir", shelf.folder).stdout
    assert f"test split, 128 targets in 24 documents and {len(FEW)} targets in 7 documents" in " ".join(text.split())
    assert "Only 7 documents: too few for reliable intervals" in text


@pytest.mark.parametrize("width", [80, 90, 100, 120])
def test_a_narrow_terminal_shows_every_number_and_verdict(shelf: Shelf, width: int) -> None:
    """In one line per length, which takes 79 columns without borders."""
    pair(shelf, {64: (-0.2, 0.05), 128: (0.0, 0.001), 256: (0.3, 0.05), 512: (0.01, 0.2)})
    sides = [find_row(shelf.folder, name)[1] for name in ("rope", "alibi")]
    page = compared_page(differences(*sides), "rope", "alibi", shelf.records[0])
    out = io.StringIO()
    show_page(page, Console(file=out, width=width, highlight=False, force_terminal=True, color_system=None))
    text = out.getvalue()
    assert "…" not in text
    assert len(page.rows) == 4
    for row in page.rows:
        line = "(?: +│ +| {3,})".join(re.escape(entry.text) for entry in row)
        assert len(re.findall(rf"(?m)^[ │]*{line}[ │]*$", text)) == 1, row[0].text
    assert "\nSeeds in common: 0, 1, 2.\n" in text
