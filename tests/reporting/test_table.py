"""Tests of ``posx.reporting.table``."""

from __future__ import annotations

from fixtures.stored_records import record
from fixtures.table_cells import example, markdown_rows, shown
from posx.reporting.formats import render
from posx.results.aggregate import aggregate


def test_a_missing_number_is_a_dash_with_a_footnote() -> None:
    for text in (render(example(), "md"), shown(example()), shown(example(), 80)):
        assert "– [1]" in text
        assert "[1] unsupported: learned positions end at 64. Try --extension interpolate." in text
    assert "-- [1]" in render(example(), "latex")


def test_equal_reasons_share_a_footnote() -> None:
    cells = aggregate(
        [
            record(5.0),
            record(None, length=128),
            record(None, length=256),
            record(None, length=512, status="oom", reason="out of memory"),
            record(None, length=1024, status="diverged", reason="the model's output is not finite at this length"),
        ]
    )
    text = render(cells, "md")
    _, row = markdown_rows(text)
    assert row[5:-1] == ["– [1]", "– [1]", "– [2]", "– [3]"]
    assert text.count("[1] unsupported") == 1
    assert "[2] oom: out of memory" in text
    assert "[3] diverged: the model's output" in text
