"""Tests of ``posx.results.cells``."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from fixtures.cells import (
    ABOVE,
    FEW,
    L,
    Shelf,
    cell_of,
    change,
    gain,
    losses,
    record,
    shelf,  # noqa: F401
)
from posx.results.aggregate import aggregate
from posx.results.bootstrap import Interval
from posx.results.cells import DELTA, verdict_of


@pytest.mark.parametrize(
    "low, high, verdict",
    [
        (-0.2, -0.1, "uses"),
        (-0.2, math.nextafter(0.0, -1), "uses"),
        (-0.2, 0.0, "survives"),  # b < 0 asks for less than 0
        (-0.2, math.nextafter(0.0, 1), "survives"),
        (0.0, 0.0, "survives"),
        (-0.2, DELTA, "survives"),
        (0.005, DELTA, "survives"),
        (DELTA, DELTA, "survives"),
        (-0.2, ABOVE, "undecided"),
        (0.0, ABOVE, "undecided"),
        (DELTA, 0.5, "undecided"),  # a > δ asks for more than δ
        (ABOVE, 0.5, "breaks"),
        (0.1, 0.5, "breaks"),
        (-5.0, 5.0, "undecided"),
    ],
)
def test_bounds_of_verdicts(low: float, high: float, verdict: str) -> None:
    assert verdict_of((low, high)) == verdict


def test_delta_is_a_hundredth_of_a_nat() -> None:
    """Of the protocol; every verdict hangs on it."""
    assert DELTA == 0.01


def test_a_verdict_is_read_from_the_simultaneous_interval() -> None:
    """Its single interval would say uses."""
    one = replace(aggregate([record(5.0, length=128)])[0], interval=Interval(-0.1, (-0.15, -0.05), (-0.21, 0.005)))
    assert one.verdict == "survives"


def test_a_row_of_json_says_both_intervals(shelf: Shelf) -> None:
    records = [shelf.put(losses()), *(shelf.put(losses() + change(0, 0.1, seed=n), length=128 * n) for n in (1, 2))]
    cell = cell_of(aggregate(records, FEW), length=256)
    row = json.loads(json.dumps(cell.as_dict(), allow_nan=False))
    assert cell.interval is not None
    assert row["interval"] == list(cell.interval.family)
    assert row["interval_alone"] == list(cell.interval.alone)
    assert (row["verdict"], row["delta"], row["deltas"]) == (cell.verdict, cell.delta, list(cell.deltas))
    assert row["usable_context"] == cell.usable


def test_a_row_of_json_says_the_share(shelf: Shelf) -> None:
    row = cell_of(aggregate(gain(shelf), FEW), length=256, base_context=L).as_dict()
    row = json.loads(json.dumps(row, allow_nan=False))
    assert row["share"] == pytest.approx(0.5, abs=1e-5)
    assert row["attainable"] == pytest.approx(0.2, abs=1e-6)
    assert row["long_nats_per_token"] == pytest.approx(4.8, abs=1e-6)
    assert row["share_interval"][0] < 0.5 < row["share_interval"][1]
