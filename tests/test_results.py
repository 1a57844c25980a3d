"""What is committed under results/ is what the records there say, and the README shows no other table."""

from __future__ import annotations

from pathlib import Path

import pytest

from posx.reporting.formats import choose, render
from posx.results.aggregate import aggregate
from posx.results.records import read_records

ROOT = Path(__file__).resolve().parents[1]
RESULTS = sorted(path.parent for path in (ROOT / "results").glob("*/table.md"))


@pytest.mark.parametrize("folder", RESULTS, ids=lambda path: path.name)
def test_the_committed_table_is_that_of_the_records(folder: Path) -> None:
    cells = choose(aggregate(read_records(folder, [])), None)
    assert render(cells, "md") == (folder / "table.md").read_text("utf-8")


def test_there_are_results() -> None:
    assert {"quickstart", "seeds", "finetune"} <= {folder.name for folder in RESULTS}


def test_the_tables_of_the_readme_are_committed_ones() -> None:
    committed = {line for folder in RESULTS for line in (folder / "table.md").read_text("utf-8").splitlines()}
    committed |= {line for path in RESULTS for line in (path / "protocols.md").read_text("utf-8").splitlines()}
    rows = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if "<br>" in line]
    assert len(rows) > 5
    assert [line for line in rows if line not in committed] == []
