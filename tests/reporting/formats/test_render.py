"""Tests of ``posx.reporting.formats``: what every format has to take."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import pytest

from fixtures.stored_records import record
from fixtures.table_cells import (
    attainable,  # noqa: F401
    judged,  # noqa: F401
    only,
    protocol_records,
    seeds,
    shown,
)
from posx.reporting.formats import render
from posx.reporting.grouping import choose, sheets
from posx.reporting.views import grid, long_form, pages
from posx.results.aggregate import aggregate
from posx.results.cells import Cell

FORMS = ("md", "csv", "latex", "json")


@pytest.mark.parametrize("nats", [800.0, 1e6])
def test_an_infinite_perplexity_works_in_every_format(nats: float) -> None:
    cells = aggregate([record(5.0), record(nats, length=128)])
    assert only(cells, length=128).ppl == math.inf
    assert "∞" in render(cells, "md")
    assert r"$\infty$" in render(cells, "latex")
    assert "∞" in shown(cells)
    assert "∞" in shown(cells, 60)
    assert json.loads(render(cells, "json"))[1]["ppl"] is None
    assert json.loads(render(cells, "json"))[1]["nats_per_token"] == nats
    assert list(csv.DictReader(io.StringIO(render(cells, "csv"))))[1]["ppl"] == "inf"


def test_a_wide_spread_of_huge_perplexities_works_in_every_format() -> None:
    cells = aggregate([*seeds([5.0, 6.0]), *seeds([900.0, 650.0], length=128)])
    for form in FORMS:
        assert render(cells, form)
    assert "∞" in shown(cells)


@pytest.mark.parametrize("form", FORMS)
def test_only_unsupported_cells_still_make_a_table(form: str) -> None:
    assert "interpolate" in render(aggregate([record(None, length=128)]), form)


def test_all_formats_show_the_share(attainable: list[Cell]) -> None:
    md = render(attainable, "md")
    assert "Share of the attainable gain" in md
    assert "| 25% [" in md
    assert r"25\% [" in render(attainable, "latex")
    assert re.search(r"25% \[", shown(attainable))
    at = {(c["label"], c["extension"], c["length"]): c for c in json.loads(render(attainable, "json"))}
    one = at["rope", "pi", 256]
    assert one["share"] == pytest.approx(0.25, abs=1e-5)
    assert one["attainable"] == pytest.approx(0.40, abs=1e-5)
    assert one["share_interval"][0] < 0.25 < one["share_interval"][1]
    assert at["alibi", "none", 256]["share"] is None
    rows = list(csv.DictReader(io.StringIO(render(attainable, "csv"))))
    assert [float(r["share"]) for r in rows if r["extension"] == "pi"] == pytest.approx([0.25], abs=1e-5)


def test_fixed_targets_of_the_test_split_are_the_default_table(tmp_path: Path) -> None:
    records = protocol_records(tmp_path)
    cells = aggregate(records)
    assert {(c.comparison.protocol, c.comparison.split) for c in choose(cells, None)} == {("fixed-targets", "test")}
    assert {c.comparison.protocol for c in choose(cells, "stream")} == {"stream"}
    assert {c.comparison.protocol for c in choose(cells, "all")} == {"fixed-targets", "non-overlapping", "stream"}
    some = aggregate([r for r in records if r.protocol != "fixed-targets"])
    assert {c.comparison.protocol for c in choose(some, None)} == {"non-overlapping", "stream"}
    only_validation = aggregate([r for r in records if r.split == "validation"])
    assert choose(only_validation, None) == only_validation


def test_pages_follow_the_width(judged: list[Cell]) -> None:
    assert len(pages(judged)) == 1
    assert pages(judged)[0].heads == grid(sheets(judged)[0]).heads
    assert pages(judged, width=50)[0].heads == long_form(sheets(judged)[0]).heads
