"""Tests of ``posx.reporting.views``: protocols."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from fixtures.records import ROPE, Shelf, hardness
from fixtures.table_cells import (
    markdown_rows,
    protocol_cells,  # noqa: F401
    remarks,
)
from posx.reporting.formats import render
from posx.reporting.views import protocols
from posx.results.aggregate import aggregate
from posx.results.cells import Cell


def test_protocols_are_compared_row_by_row(protocol_cells: list[Cell]) -> None:
    text = render(protocol_cells, "md", side_by_side=True)
    head, *rows = markdown_rows(text)
    assert head == ["scheme", "extension", "protocol", "seeds", "64 (1x)", "128 (2x)", "256 (4x)"]
    assert [row[3] for row in rows] == ["1"] * 5
    assert [row[:3] for row in rows] == [
        ["rope", "none", "fixed-targets"],
        ["", "", "non-overlapping"],
        ["", "", "stream"],
        ["alibi", "none", "fixed-targets"],
        ["", "", "non-overlapping"],
    ]
    base = hardness().mean()
    assert rows[0][4] == f"{math.exp(base):.2f}"
    # exp(0.3) − 1 = 35.0%, exp(−0.2) − 1 = −18.1%, exp(0.05) − 1 = 5.1%.
    assert rows[0][6] == f"{math.exp(base + 0.3):.2f} +35.0% breaks"
    assert rows[1][6] == f"{math.exp(base + 0.5 - 0.2):.2f} -18.1% uses"
    assert rows[2][5:] == ["", f"{math.exp(base + 0.05):.2f} +5.1% breaks"]
    below = remarks(text)
    assert "compare changes within a row, not perplexities across rows" in below
    assert "perplexity falls even if the model makes no use of the longer context" in below
    page = protocols(protocol_cells)
    assert page is not None
    assert page.sections == {3}
    assert page.left == 3


def test_each_protocol_has_its_own_number_of_seeds(tmp_path: Path) -> None:
    """Three under fixed-targets; under stream two, and one at 256."""
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.01)}, seeds=3, **ROPE)
    stream = {"protocol": "stream", "targets_sha256": "99" * 32}
    shelf.row({128: (0.1, 0.01)}, seeds=2, **stream, **ROPE)
    shelf.put(hardness(1), seed=1, length=256, **stream, **ROPE)
    head, *rows = markdown_rows(render(aggregate(shelf.records), "md", side_by_side=True))
    assert head[2:4] == ["protocol", "seeds"]
    assert [row[2:4] for row in rows] == [["fixed-targets", "3"], ["stream", "1–2"]]


def test_two_target_sets_of_one_protocol_are_distinguished(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.01)}, **ROPE)
    shelf.row({128: (0.2, 0.01)}, targets_sha256="66" * 32, **ROPE)
    _, *rows = markdown_rows(render(aggregate(shelf.records), "md", side_by_side=True))
    assert [row[2] for row in rows] == ["fixed-targets 111111", "fixed-targets 666666"]


def test_a_curve_is_a_table_by_available_context(tmp_path: Path) -> None:
    """Means over targets by context 1, 2, 3–4, 5–8, …, recomputed with loops; two seeds, three documents."""
    shelf = Shelf(tmp_path)
    sums: dict[str, list[float]] = {}
    for seed in range(2):
        nll = 6 - np.log(np.tile(np.arange(1, 25), 6)) + 0.1 * np.random.default_rng(seed).standard_normal(144)
        shelf.curve(nll, 24, [1, 3, 2], seed=seed, **ROPE)
        for place, value in enumerate(nll.tolist()):
            context = place % 24 + 1
            for low, high in ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 24)):
                if low <= context <= high:
                    sums.setdefault(f"{low}–{high}" if high > low else f"{low}", []).append(value)
    text = render(aggregate(shelf.records), "md")
    head, row = markdown_rows(text)
    assert head == ["scheme", "extension", *sums]
    assert row == ["rope", "none", *(f"{sum(values) / len(values):.3f}" for values in sums.values())]
    assert "Windows of 24 tokens" in text
    assert "144 targets in 3 documents" in text
