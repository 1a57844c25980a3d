"""Tests of ``posx.reporting.views``: grid."""

from __future__ import annotations

import math
import re
from pathlib import Path

from fixtures.models import posx
from fixtures.records import ALIBI, ROPE, Shelf, by_document, hardness
from fixtures.stored_records import record, stored
from fixtures.table_cells import (
    bare,
    judged,  # noqa: F401
    markdown_rows,
    only,
    remarks,
    shown,
)
from posx.reporting.formats import render
from posx.reporting.grouping import sheets
from posx.reporting.table import Entry, Page
from posx.reporting.views import grid, long_form
from posx.results.aggregate import aggregate
from posx.results.cells import Cell


def test_each_row_has_one_usable_context(tmp_path: Path) -> None:
    """Up to the first length that breaks or is missing; later lengths do not count."""
    shelf = Shelf(tmp_path)
    fine, broken = (0.001, 0.001), (0.5, 0.01)
    for name, row in {
        "all": {128: fine, 256: fine, 512: fine},
        "gap": {128: fine, 256: broken, 512: fine},
        "none": {128: broken, 256: fine, 512: fine},
        "doubt": {128: (0.01, 0.2), 256: fine, 512: broken},
        "late doubt": {128: fine, 256: broken, 512: (0.01, 0.2)},
    }.items():
        shelf.row(row, label=name, config_sha256=name.encode().hex().ljust(64, "0"))
    shelf.row({128: fine, 512: fine}, **ALIBI)
    shelf.put(None, length=256, **ALIBI)
    head, *rows = markdown_rows(render(aggregate(shelf.records), "md"))
    assert head[-1] == "usable"
    found = {row[0]: row[-1] for row in rows}
    assert found == {"all": "512", "gap": "128", "none": "64", "doubt": "64–256?", "late doubt": "128", "alibi": "128"}
    assert "the largest length up to which nothing breaks" in remarks(render(aggregate(shelf.records), "md"))


def named_rows(page: Page) -> list[tuple[str, str, list[list[Entry]]]]:
    """The rows of numbers of a long form, by the name above them and what it says of seeds and usable context."""
    starts = [0, *sorted(page.sections)]
    found = []
    for first, past in zip(starts, [*starts[1:], len(page.rows)], strict=True):
        name, seeds_and_usable, *rows = page.rows[first:past]
        for above in (name, seeds_and_usable):  # separate rows without numbers
            assert len(above[0].lines) == 1
            assert [one.lines for one in above[1:]] == [("",)] * 4
        for row in rows:
            assert all(len(one.lines) == 1 for one in row)  # one line per number
            assert re.fullmatch(r"  \d+ \(\d+x\)", row[0].lines[0])
        assert rows
        found.append((name[0].lines[0], seeds_and_usable[0].lines[0], rows))
    return found


def test_every_format_shows_the_number_of_seeds(judged: list[Cell]) -> None:
    """Spread and number of seeds are always shown."""
    page = grid(sheets(judged)[0])
    assert page.heads[3] == "seeds"
    assert [row[3].text for row in page.rows] == ["3", "3", "1"]
    assert [row[0].text for row in page.rows] == ["rope", "rope", "alibi"]
    for row in page.rows:
        assert any("±" in entry.text for entry in row) == (row[3].text == "3")
    seeds_and_usable = named_rows(long_form(sheets(judged)[0]))
    assert [(name, seeds_) for name, seeds_, _ in seeds_and_usable] == [
        ("rope", "3 seeds, usable 256"),
        ("rope + pi", "3 seeds, usable 256?"),
        ("alibi", "1 seed, usable 64"),
    ]
    for name, _, rows in seeds_and_usable:
        assert ["±" in row[1].text for row in rows] == [name != "alibi"] * len(rows)
    for width in (80, 90, 100, 120):
        text = bare(shown(judged, width))
        parts = ("3seeds,usable256", "3seeds,usable256?", "1seed,usable64")
        assert [text.count(part) for part in parts] == [2, 1, 1]


def test_a_cell_with_fewer_seeds_than_its_row_is_noted(tmp_path: Path) -> None:
    """At 512, two of three seeds ran out of memory: the row shows 1–3 seeds, and this cell has no spread."""
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.01)}, seeds=3, **ROPE)
    shelf.put(hardness(0) + 0.2, length=512, **ROPE)
    for seed in (1, 2):
        shelf.put(None, length=512, seed=seed, status="oom", reason="out of memory", **ROPE)
    cells = aggregate(shelf.records)
    assert only(cells, length=512).seeds == [0]
    _, row = markdown_rows(render(cells, "md"))
    assert row[3] == "1–3"
    assert ["±" in row[place] for place in (4, 5, 6)] == [True, True, False]
    assert row[6].startswith(f"{math.exp(hardness(0).mean() + 0.2):.2f} · {hardness(0).mean() + 0.2:.3f}<br>+0.200 [")
    assert "Intervals of cells with only one seed cover document sampling only." in remarks(render(cells, "md"))
    assert "& 1--3 &" in render(cells, "latex")
    ((name, seeds_and_usable, rows),) = named_rows(long_form(sheets(cells)[0]))
    assert (name, seeds_and_usable) == ("rope", "1–3 seeds, usable 64")
    assert [row[0].text for row in rows] == ["  64 (1x)", "  128 (2x)", "  512 (8x)"]
    assert ["±" in row[1].text for row in rows] == [True, True, False]
    assert bare(shown(cells, 80)).count("1–3seeds,usable64") == 1
    assert re.search(r"│ +1–3 │", shown(cells, 200))


def test_a_row_with_equally_many_different_seeds_has_one_number_of_seeds(tmp_path: Path) -> None:
    """Two of three seeds at each length, in different combinations; a length without numbers is ignored."""
    shelf = Shelf(tmp_path)
    for seed, length in ((0, 64), (1, 64), (1, 128), (2, 128), (0, 256), (2, 256)):
        shelf.put(hardness(seed), seed=seed, length=length, **ROPE)
    for seed in range(3):
        shelf.put(None, seed=seed, length=512, **ROPE)
    _, row = markdown_rows(render(aggregate(shelf.records), "md"))
    assert row[3] == "2"


def test_failed_seeds_do_not_count(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for seed in (0, 2):
        shelf.put(hardness(seed), seed=seed, **ROPE)
        shelf.put(hardness(seed) + by_document(0.1, 0.01), seed=seed, length=128, **ROPE)
    for length in (64, 128):
        shelf.put(None, seed=1, length=length, status="diverged", reason="not finite", **ROPE)
    _, row = markdown_rows(render(aggregate(shelf.records), "md"))
    mean = (hardness(0).mean() + hardness(2).mean()) / 2
    assert row[3] == "2"
    assert row[4].startswith(f"{math.exp(mean):.2f} · {mean:.3f} ±")
    assert "+0.100 [" in row[5]


def test_the_long_form_has_the_same_numbers_as_the_grid(judged: list[Cell]) -> None:
    (sheet,) = sheets(judged)
    wide, narrow = grid(sheet), long_form(sheet)
    assert len(judged) == 8
    assert len(narrow.rows) == 8 + 2 * 3  # a name, and its seeds, above the numbers of each of three
    assert narrow.heads == ["length", "nats/token", "ppl", "change, 95% interval", "verdict"]
    assert narrow.left == 1
    assert narrow.sections == {6, 9}
    entries = {}
    for name, above, rows in named_rows(narrow):
        seeds_, usable = re.fullmatch(r"(.+) seeds?, usable (.+)", above).groups()  # type: ignore[union-attr]
        for row in rows:
            context = row[0].text.strip()
            assert (name, context) not in entries
            entries[name, context] = [one.text for one in row[1:]], seeds_, usable
    assert len(entries) == 8
    assert entries["rope", "512 (8x)"][0][-1] == "breaks"
    assert entries["rope + pi", "256 (4x)"][0][-1] == "undecided"
    assert entries["alibi", "512 (8x)"][0] == ["– [1]", "", "", ""]
    for row in wide.rows:
        for head, one in zip(wide.heads[4:-1], row[4:-1], strict=True):
            if not one.text:
                continue
            name = row[0].text + ("" if row[1].text == "none" else f" + {row[1].text}")
            (nats, ppl, change, verdict), *seeds_and_usable = entries[name, head]
            assert seeds_and_usable == [row[3].text, row[-1].text]
            if one.text.startswith("–"):
                continue
            again = (f"{ppl} · {nats}", *((change, verdict) if change else ()))
            assert one.lines == again


def test_the_long_form_has_the_usable_context(judged: list[Cell]) -> None:
    """One number for each scheme and extension."""
    page = long_form(sheets(judged)[0])
    assert "256?" in " ".join(one.text for row in page.rows for one in row) + " ".join(page.notes)


def test_without_verdicts_there_is_no_usable_context(tmp_path: Path) -> None:
    """exp(3) times the perplexity of 1x without an interval: 128 must not be called usable."""
    runs = stored(tmp_path / "runs", record(5.0), record(8.0, length=128))
    _, row = markdown_rows(posx("table", "--runs-dir", runs, "--format", "md").stdout)
    assert row[-1] == "–"
