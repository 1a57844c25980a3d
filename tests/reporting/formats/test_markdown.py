"""Tests of ``posx.reporting.formats.markdown``."""

from __future__ import annotations

import math
import re

import pytest

from fixtures.records import TARGETS, hardness
from fixtures.stored_records import record
from fixtures.table_cells import (
    example,
    judged,  # noqa: F401
    markdown_rows,
    only,
    printed,
    remarks,
)
from posx.reporting.formats import render
from posx.results.aggregate import aggregate
from posx.results.cells import Cell

DELTA = 0.01  # PROTOCOL.md, "Verdict"


def test_markdown_without_losses_has_every_number_and_no_verdict() -> None:
    text = render(example(), "md")
    head, *rows = markdown_rows(text)
    assert head == ["scheme", "extension", "params", "seeds", "64 (1x)", "128 (2x)", "256 (4x)", "usable"]
    # exp(4.1) = 60.34, exp(4.2) = 66.69, exp(6.1) = 445.86, exp(4.4) = 81.45; two seeds 0.2 apart: 0.1·√2.
    assert rows[0][:4] == ["rope", "none", "1.23M", "2"]
    assert rows[0][4:7] == ["60.34 · 4.100 ±0.141", "66.69 · 4.200 ±0.141<br>+0.100", "445.9 · 6.100 ±0.141<br>+2.000"]
    assert rows[1][:2] == ["rope", "pi"]
    assert rows[1][4:6] == ["", ""]  # not evaluated: no number and no dash
    assert rows[1][6] == "81.45 · 4.400 ±0.000<br>+0.300"
    assert rows[2][:4] == ["alibi", "none", "1.23M", "1"]
    assert rows[2][5] == "81.45 · 4.400<br>-0.100"  # one seed spreads nowhere
    below = remarks(text)
    assert "No intervals: the losses of single targets are missing" in below
    for word in ("simultaneous", "uses:", "One seed", "Intervals cover"):
        assert word not in below


def test_a_cell_shows_perplexity_nats_change_interval_and_verdict(judged: list[Cell]) -> None:
    """All numbers are recomputed from the stored arrays, except bounds, whose centre must be the change."""
    text = render(judged, "md")
    head, *rows = markdown_rows(text)
    assert head[4:] == ["64 (1x)", "128 (2x)", "256 (4x)", "512 (8x)", "usable"]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("rope", "none", "3"),
        ("rope", "pi", "3"),
        ("alibi", "none", "1"),
    ]
    base = [sum(map(float, hardness(seed))) / TARGETS for seed in range(3)]
    spread = math.sqrt(sum((b - sum(base) / 3) ** 2 for b in base) / 2)
    assert rows[0][4] == f"{math.exp(sum(base) / 3):.2f} · {sum(base) / 3:.3f} ±{spread:.3f}"
    assert rows[2][4] == f"{math.exp(base[0]):.2f} · {base[0]:.3f}"
    verdicts = {}
    for row, number in ((rows[0], 3), (rows[1], 3), (rows[2], 1)):
        for place, length in ((5, 128), (6, 256), (7, 512)):
            if "<br>" not in row[place]:
                continue
            value, change, verdict = row[place].split("<br>")
            mean = float(value.split()[2])
            assert float(value.split()[0]) == pytest.approx(math.exp(mean), rel=0.001)
            assert mean - sum(base[:number]) / number == pytest.approx(float(change.split()[0]), abs=0.0011)
            assert ("±" in value) == (number > 1)
            delta, low, high = map(float, re.findall(r"[+-]\d+\.\d{3}", change))
            assert low < delta < high
            assert (low + high) / 2 == pytest.approx(delta, abs=0.0011)
            assert change == f"{delta:+.3f} [{low:+.3f}, {high:+.3f}]"
            cell = only(judged, length=length, label=row[0], extension=row[1])
            assert cell.interval is not None
            assert change.endswith(printed(cell.interval.family))  # of the whole table, not each for itself
            verdicts[row[0], row[1], length] = verdict, low, high, delta
    expected = {
        ("rope", "none", 128): ("uses", -0.05),
        ("rope", "none", 256): ("survives", 0.002),
        ("rope", "none", 512): ("breaks", 1.0),
        ("rope", "pi", 256): ("undecided", 0.01),
        ("alibi", "none", 128): ("breaks", 0.3),
    }
    assert {key: (found[0], found[3]) for key, found in verdicts.items()} == expected
    for verdict, low, high, _ in verdicts.values():  # the first that fits
        fits = {"uses": high < 0, "survives": high <= DELTA, "breaks": low > DELTA, "undecided": True}
        assert next(name for name, fit in fits.items() if fit) == verdict
    assert [row[8] for row in rows] == ["256", "256?", "64"]
    assert rows[2][7] == "– [1]"


def test_a_pipe_in_a_label_does_not_break_a_row() -> None:
    _, row = markdown_rows(render(aggregate([record(5.0, label="a|b")]), "md"))
    assert row[0] == "a\\|b"
