"""Tests of ``posx.reporting.views``: gain."""

from __future__ import annotations

import re
from pathlib import Path

from fixtures.records import LONG, RECIPE, ROPE, Shelf, by_document, hardness
from fixtures.table_cells import (
    attainable,  # noqa: F401
    flat,
    judged,  # noqa: F401
    markdown_rows,
)
from posx.reporting.formats import render
from posx.reporting.grouping import sheets
from posx.reporting.views import gain
from posx.results.aggregate import aggregate
from posx.results.cells import Cell


def test_the_share_of_the_attainable_gain_by_hand(attainable: list[Cell]) -> None:
    """(nats(1x) − nats(ℓ)) / (nats(1x) − nats_long(ℓ)): 0.10/0.40 = 25% for pi, −0.20/0.40 = −50% without."""
    page = gain(sheets(attainable)[0])
    assert page is not None
    rows = [[entry.text for entry in row] for row in page.rows]
    assert page.heads[-3:] == ["attainable", "gain of long", "share"]
    base = (hardness(0).mean() + hardness(1).mean()) / 2
    # The long model's own nats(L) − nats(ℓ) = −0.05 + 0.40.
    for row, name, change, share in ((rows[0], "none", 0.20, -50), (rows[1], "pi", -0.10, 25)):
        assert row[:2] == ["rope", name]
        assert row[2].startswith("256")
        assert row[3] == "2"
        assert row[4:7] == [f"{base:.3f}", f"{base + change:.3f}", f"{base - 0.40:.3f}"]
        assert row[7].startswith("+0.400 [+0.3")
        assert row[8] == "+0.350"
        found = re.fullmatch(r"(-?\d+)% \[(-?\d+)%, (-?\d+)%\]", row[9])
        assert found is not None, row[9]
        value, low, high = map(int, found.groups())
        assert value == share
        assert low < value < high
        assert high - low < 30
    assert len(rows) == 2  # alibi has no control; controls have no row
    notes = flat(" ".join(page.notes))
    assert "Rank schemes by nats, not by share" in notes
    assert "trained from scratch at ℓ" in notes


def test_controls_are_not_in_the_grid(attainable: list[Cell]) -> None:
    _, *rows = markdown_rows(render(attainable, "md").split("Share of the attainable gain")[0])
    assert [row[:2] for row in rows] == [["rope", "none"], ["rope", "pi"], ["alibi", "none"]]


def test_a_gain_that_is_not_significant_has_no_share(tmp_path: Path) -> None:
    """The interval of the denominator contains 0: only the attainable gain and its interval are shown."""
    shelf = Shelf(tmp_path)
    base, own = hardness(), {"recipe_sha256": RECIPE}
    shelf.put(base, **own, **ROPE)
    shelf.put(base + by_document(0.2, 0.02, seed=1), length=256, **own, **ROPE)
    shelf.put(base + by_document(-0.01, 0.3, seed=3), length=256, **own, **LONG, run="long")
    page = gain(sheets(aggregate(shelf.records))[0])
    assert page is not None
    (row,) = page.rows
    assert row[-1].text == "–"
    assert re.fullmatch(r"\+0\.010 \[-0\.\d+, \+0\.\d+\]", row[7].text)
    assert row[8].text == "–"  # the long model was not evaluated at L


def test_without_controls_there_is_no_table_of_shares(judged: list[Cell]) -> None:
    assert gain(sheets(judged)[0]) is None
    assert "attainable" not in render(judged, "md")
