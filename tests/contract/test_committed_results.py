"""Committed tables are those of the committed records, and rows in pages are rows of committed tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from posx.reporting.formats import render
from posx.reporting.grouping import ALL, choose
from posx.results.aggregate import aggregate
from posx.results.records import current_records, read_records
from posx.runs.directory import open_run, run_folders
from posx.runs.identity import group_hash, job_hash, recipe_hash

ROOT = Path(__file__).resolve().parents[2]


RESULTS = sorted(path.parent for path in (ROOT / "results").glob("*/table.md"))


@pytest.mark.parametrize("folder", RESULTS, ids=lambda path: path.name)
def test_the_committed_tables_equal_those_of_the_records(folder: Path) -> None:
    everything = aggregate(read_records(folder, []))
    assert render(choose(everything, None), "md") == (folder / "table.md").read_text("utf-8")
    assert render(choose(everything, ALL), "md", True) == (folder / "protocols.md").read_text("utf-8")


def test_there_are_results() -> None:
    assert {"quickstart", "seeds", "finetune"} <= {folder.name for folder in RESULTS}


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_every_row_of_a_page_is_a_row_of_a_committed_table(page: str) -> None:
    tables = [folder / name for folder in RESULTS for name in ("table.md", "protocols.md")]
    committed = {line for path in tables for line in path.read_text("utf-8").splitlines()}
    rows = [line for line in (ROOT / page).read_text("utf-8").splitlines() if line.startswith("|")]
    assert len(rows) > 5
    assert [row for row in rows if row not in committed] == []


FINETUNES = run_folders(ROOT / "results" / "finetune")


@pytest.mark.parametrize("path", FINETUNES[::7], ids=lambda path: path.name)
def test_hashes_of_runs_without_a_recipe_have_not_changed(path: Path) -> None:
    """Records committed before recipes existed have the hashes of today, so a new seed joins their row."""
    run = open_run(path)
    records = current_records(path)
    assert {r.config_sha256 for r in records} == {group_hash(run.config)}
    assert {r.recipe_sha256 for r in records} == {recipe_hash(run.config)}
    assert {(r.train_recipe, r.train_reach, r.recipe) for r in records} == {("none", None, "")}
    # A sweep finds the run under its name.
    assert run.name.endswith(job_hash(run.config, run.meta["corpus_sha256"], run.meta["tokenizer_sha256"]))


def test_results_stay_small() -> None:
    """A few files per bundle, and no run directories."""
    sizes = [path.stat().st_size for path in (ROOT / "results").rglob("*") if path.is_file()]
    assert len(sizes) <= 120
    assert sum(sizes) <= 4_000_000
    assert not list((ROOT / "results").rglob("config.yaml"))
