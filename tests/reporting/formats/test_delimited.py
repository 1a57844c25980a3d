"""Tests of ``posx.reporting.formats.delimited``."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import fields
from typing import Any

import pytest

from fixtures.records import TARGETS, hardness
from fixtures.stored_records import record
from fixtures.table_cells import judged  # noqa: F401 - a fixture
from posx.reporting.formats import render
from posx.results.aggregate import aggregate
from posx.results.cells import Cell
from posx.results.records import Record


def test_csv_has_a_row_per_cell_with_every_field(judged: list[Cell]) -> None:
    rows = list(csv.DictReader(io.StringIO(render(judged, "csv"))))
    assert len(rows) == len(judged) == 8
    record_fields = {f.name for f in fields(Record)} - {"path"}
    derived = "seeds nats_per_token spread ppl bpb multiple delta deltas interval verdict usable_context share cells"
    assert record_fields | set(derived.split()) <= set(rows[0])
    assert None not in rows[0]  # no row is longer than the head
    row = next(r for r in rows if (r["length"], r["extension"], r["label"]) == ("128", "none", "rope"))
    records = [r for c in judged for r in c.records if (r.length, r.extension, r.label) == (128, "none", "rope")]
    assert len(records) == 3
    # What differs between the seeds is a list in their order; the rest of the record is there as it is.
    for name in ("run", "seed", "nats", "checkpoint_sha256"):
        assert json.loads(row[name]) == [getattr(r, name) for r in records], name
    assert json.loads(row["seeds"]) == [0, 1, 2]
    assert json.loads(row["cells"]) == [r.key for r in records]
    per_seed = {"run", "seed", "nats", "checkpoint_sha256", "seconds", "tokens_per_second", "peak_memory_bytes"}
    for name in record_fields - per_seed:
        value = getattr(records[0], name)
        found: Any = row[name]
        if isinstance(value, dict | list):
            found = json.loads(found)
        elif value is None:
            value = ""
        elif not isinstance(value, str):
            found = type(value)(found)
        assert found == value, name
    means = [r.nats / TARGETS for r in records if r.nats is not None]
    assert float(row["nats_per_token"]) == pytest.approx(sum(means) / 3, rel=1e-12)
    assert float(row["ppl"]) == pytest.approx(math.exp(sum(means) / 3))
    assert float(row["delta"]) == pytest.approx(-0.05, abs=1e-6)
    assert json.loads(row["deltas"]) == pytest.approx([-0.051, -0.05, -0.049], abs=1e-6)
    low, high = json.loads(row["interval"])
    alone = json.loads(row["interval_alone"])
    assert low < alone[0] < -0.05 < alone[1] < high < 0
    assert row["verdict"] == "uses"
    failed = next(r for r in rows if r["status"] == "unsupported")
    assert [failed[k] for k in ("ppl", "delta", "interval", "nats_per_token", "verdict")] == [""] * 5
    assert failed["reason"] == "learned positions end at 64. Try --extension interpolate."


def test_csv_escapes_its_special_characters() -> None:
    label = 'a,"b"\nc;\t|'
    rows = list(
        csv.DictReader(io.StringIO(render(aggregate([record(5.0, label=label), record(5.1, length=128)]), "csv")))
    )
    assert [r["label"] for r in rows] == [label, "rope"]


def test_json_is_an_array_of_cells(judged: list[Cell]) -> None:
    cells = json.loads(render(judged, "json"))
    assert len(cells) == 8
    named = "seeds nats_per_token ppl bpb multiple delta interval verdict scheme extension length status"
    assert all(set(named.split()) <= cell.keys() for cell in cells)
    assert all({f.name for f in fields(Record)} - {"path"} <= cell.keys() for cell in cells)
    at = {(c["label"], c["extension"], c["length"]): c for c in cells}
    one = at["rope", "none", 512]
    nats = sum(float(hardness(seed).mean()) for seed in range(3)) / 3 + 1.0
    assert one["seeds"] == one["seed"] == [0, 1, 2]
    assert one["run"] == ["rope-seed0", "rope-seed1", "rope-seed2"]
    assert one["nats_per_token"] == pytest.approx(nats, abs=1e-6)
    assert one["ppl"] == pytest.approx(math.exp(nats), rel=1e-6)
    assert one["bpb"] == pytest.approx(nats * TARGETS / math.log(2) / (3 * TARGETS), abs=1e-6)
    assert one["multiple"] == 8.0
    assert one["delta"] == pytest.approx(1.0, abs=1e-6)
    assert one["interval"][0] < 1.0 < one["interval"][1]
    assert one["verdict"] == "breaks"
    assert one["usable_context"] == 256
    control = at["rope", "none", 64]
    assert (control["delta"], control["interval"], control["verdict"]) == (0.0, None, "")
    failed = at["alibi", "none", 512]
    empty = [failed[key] for key in ("nats_per_token", "ppl", "bpb", "delta", "interval", "seeds")]
    assert empty == [None, None, None, None, None, []]


def test_json_multiples_refer_to_the_training_context() -> None:
    """For L = 64, 96 tokens are 1.5x."""
    (cell,) = json.loads(render(aggregate([record(5.0, length=96)]), "json"))
    assert cell["multiple"] == 1.5
