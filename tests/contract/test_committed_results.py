"""Committed tables are those of the committed records, and rows in pages are rows of committed tables."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from fixtures.pictures import stored_digest
from posx.bench import growth_page
from posx.config.catalog import PACKAGED
from posx.reporting.formats import render
from posx.reporting.grouping import ALL, choose
from posx.reporting.plots import draw
from posx.reporting.plots.digest import digest
from posx.results.aggregate import aggregate
from posx.results.bundle_cells import VIEWS, bundled_curve, bundled_sums
from posx.results.records import current_records, read_records
from posx.runs.directory import open_run, run_folders
from posx.runs.identity import group_hash, job_hash, recipe_hash
from posx.sweeps.file import read_sweep_file
from posx.sweeps.plan import read_sweep

ROOT = Path(__file__).resolve().parents[2]


RESULTS = sorted(path.parent for path in (ROOT / "results").glob("*/table.md"))


@pytest.mark.parametrize("folder", RESULTS, ids=lambda path: path.name)
def test_the_committed_tables_equal_those_of_the_records(folder: Path) -> None:
    everything = aggregate(read_records(folder, []))
    assert render(choose(everything, None), "md") == (folder / "table.md").read_text("utf-8")
    assert render(choose(everything, ALL), "md", True) == (folder / "protocols.md").read_text("utf-8")


@pytest.mark.parametrize("folder", RESULTS, ids=lambda path: path.name)
def test_the_sums_and_curves_of_every_cell_add_up_to_its_record(folder: Path) -> None:
    """Also those that no table or picture shows."""
    for record in read_records(folder, []):
        assert record.path is not None
        sums = bundled_sums(record.path)
        if sums is not None:
            assert float(sums[2].sum()) == pytest.approx(record.nats, rel=1e-9)
        for view in VIEWS:
            curve = bundled_curve(record.path, view)
            if curve is not None:
                assert float(curve["nats"].sum()) == pytest.approx(record.nats, rel=1e-9)


def test_there_are_results() -> None:
    assert {"quickstart", "seeds", "finetune"} <= {folder.name for folder in RESULTS}


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_every_row_of_a_page_is_a_row_of_a_committed_table(page: str) -> None:
    tables = [folder / name for folder in RESULTS for name in ("table.md", "protocols.md")]
    committed = {line for path in tables for line in path.read_text("utf-8").splitlines()}
    rows = [line for line in (ROOT / page).read_text("utf-8").splitlines() if line.startswith("|")]
    assert len(rows) > 5
    assert [row for row in rows if row not in committed] == []


def rows_of_tables(page: Path) -> list[list[str]]:
    """The lines of each Markdown table of a page."""
    tables: list[list[str]] = [[]]
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("|"):
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    return [table for table in tables if table]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "LOG.md"], ids=lambda page: page.name)
def test_a_results_table_of_any_page_is_committed(page: Path) -> None:
    """Tables with the head of a committed one; the log tells what was measured at its time."""
    files = list((ROOT / "results").rglob("*.md"))
    committed = {line for path in files for line in path.read_text("utf-8").splitlines()}
    heads = {table[0] for path in files for table in rows_of_tables(path)}
    tables = [table for table in rows_of_tables(page) if table[0] in heads]
    assert [row for table in tables for row in table if row not in committed] == []


KINDS = {"perplexity": "length", "position": "position", "gain": "gain", "finetune": "finetune"}
PICTURES = sorted(path for path in (ROOT / "results").rglob("*") if path.suffix in (".png", ".svg"))


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_committed_picture_shows_what_the_records_say(path: Path) -> None:
    """Drawn again, its lines, intervals and labels have the digest that the file carries: scripts/publish writes it."""
    if path.parent.name == "scaling":
        figure = growth_page.draw(growth_page.read(path.parent))
    else:
        cells = aggregate(read_records(path.parent, []))
        kind = KINDS[path.stem]
        figure = draw(kind, choose(cells, None) if kind == "length" else cells)
    try:
        assert stored_digest(path) == digest(figure)
    finally:
        plt.close(figure)


def test_pages_show_committed_pictures() -> None:
    """And every bundle has one SVG; only what a page shows is a PNG, which is larger."""
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"!\[[^]]*\]\(([^)]*results/[^)]*)\)", page.read_text("utf-8"))
    }
    assert {path for path in PICTURES if path.suffix == ".png"} == shown
    assert [folder.name for folder in RESULTS if not (folder / "perplexity.svg").is_file()] == []


SWEEPS = sorted((ROOT / "results").glob("*/sweep.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.parent.name)
def test_the_sweep_file_of_a_bundle_names_its_runs(path: Path) -> None:
    jobs = read_sweep(path, [], lambda text: None, PACKAGED).jobs
    assert {job.name for job in jobs} == {folder.name for folder in run_folders(path.parent)}
    names = {"quickstart": "quick"}
    packaged = ROOT / "configs" / "sweep" / f"{names.get(path.parent.name, path.parent.name)}.yaml"
    assert typed_sweep(path) == typed_sweep(packaged)


def typed_sweep(path: Path) -> object:
    """What a sweep file says, without its comments."""
    return read_sweep_file(path, [])


def test_the_sweeps_of_bundles() -> None:
    """extend-rope was run without the fine-tunes of its file, and t5-bias by hand."""
    assert {path.parent.name for path in SWEEPS} == {"quickstart", "seeds", "schemes", "gain", "finetune"}


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
