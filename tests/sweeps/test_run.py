"""Tests of ``posx.sweeps.run``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from fixtures.corpora import child_environment
from fixtures.models import posx
from fixtures.sweep_files import (
    LONG,
    planned,
    sweep_file,
    text,  # noqa: F401
)
from posx.results.records import read_records

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def children_import_this_posx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are processes of their own."""
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])


def weights(runs: Path) -> dict[str, tuple[int, bytes]]:
    """The checkpoint of every run: when it was written, and what it holds."""
    return {
        p.parent.parent.parent.name: (p.stat().st_mtime_ns, p.read_bytes())
        for p in runs.glob("*/checkpoints/step-*/model.safetensors")
    }


@pytest.fixture(scope="module")
def swept(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A sweep file, the runs directory of its first run, and what was printed to standard output."""
    folder = tmp_path_factory.mktemp("sweep")
    path = sweep_file(folder / "s.yaml", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
        result = posx("sweep", path, "--workers", 2, "--runs-dir", folder / "runs")
    assert "4 jobs, 4 to do, 2 at a time" in " ".join(result.stderr.split())
    return path, folder / "runs", result.stdout


def copied(swept: tuple[Path, Path, str], tmp_path: Path) -> Path:
    """The runs, for a test that changes them."""
    return Path(shutil.copytree(swept[1], tmp_path / "runs"))


def test_a_sweep_trains_and_evaluates_every_job(swept: tuple[Path, Path, str]) -> None:
    path, runs, printed = swept
    jobs = planned(path)
    assert weights(runs).keys() == {job.name for job in jobs}
    cells = {(r.label, r.seed, r.extension, r.length) for r in read_records(runs, [])}
    assert cells == {
        (label, seed, extension, length)
        for label, extensions, lengths in (
            ("rope", ("none", "pi"), (8, 16)),
            ("alibi-long", ("none", "window"), (16, 32)),
        )
        for seed in (0, 1)
        for extension in extensions
        for length in lengths
    }
    for label in ("rope", "alibi-long"):
        assert label in printed
    assert all((runs / f"s{suffix}").stat().st_size > 100 for suffix in (".md", ".json", "-length.png", "-length.svg"))
    table = json.loads((runs / "s.json").read_text("utf-8"))
    assert {tuple(cell["seeds"]) for cell in table} == {(0, 1)}


def test_all_jobs_share_their_targets_whatever_their_context(swept: tuple[Path, Path, str]) -> None:
    """Else the rows of the table would be scored on unlike text. DESIGN: a sweep fixes targets once."""
    records = read_records(swept[1], [])
    assert {r.base_context for r in records} == {8, 16}
    assert len({r.targets_sha256 for r in records}) == 1
    assert {(r.stride, r.target_context, r.n_targets) for r in records} == {(1, 128, 128)}


def test_a_second_run_does_nothing_and_prints_the_same_table(swept: tuple[Path, Path, str], tmp_path: Path) -> None:
    runs = copied(swept, tmp_path)
    before = weights(runs)
    result = posx("sweep", swept[0], "--runs-dir", runs)
    assert "4 jobs, 0 to do" in " ".join(result.stderr.split())
    assert weights(runs) == before
    assert result.stdout == swept[2]
    listed = posx("sweep", swept[0], "--dry-run", "--runs-dir", runs).stdout
    assert listed.count("done") == 4
    assert "to do" not in listed


def test_a_job_that_fails_stops_no_other_and_only_what_is_missing_is_done(
    swept: tuple[Path, Path, str], text: Path, tmp_path: Path
) -> None:
    """Of the earlier sweep one run was deleted; a row that diverges stands before it."""
    runs = copied(swept, tmp_path)
    gone = next(job.name for job in planned(swept[0]) if job.name.startswith("alibi-long-seed1"))
    before = weights(runs)
    shutil.rmtree(runs / gone)
    boom = {"scheme": "rope", "label": "boom", "overrides": ["optim.lr=1e30"]}
    path = sweep_file(tmp_path / "s.yaml", text, schemes=[boom, "rope", LONG], seeds=[1])
    result = posx("sweep", path, "--workers", 2, "--runs-dir", runs, code=1)
    words = " ".join(result.stderr.split())
    assert "3 jobs, 2 to do" in words
    assert "Training diverged at step" in words
    assert "1 of 3 jobs failed" in words
    after = weights(runs)
    assert after[gone][1] == before[gone][1]  # the same weights, trained again
    assert after[gone][0] != before[gone][0]
    assert {k: v for k, v in after.items() if k != gone} == {k: v for k, v in before.items() if k != gone}
    table = (runs / "s.md").read_text("utf-8")
    assert "| alibi-long (L = 16) | none |" in table
    assert "boom" not in table
    assert "alibi-long" in result.stdout
    for log in (runs / ".jobs").glob("boom*.log"):
        assert "Traceback" not in log.read_text("utf-8")


def test_dry_run_knows_what_a_run_would_do(swept: tuple[Path, Path, str], tmp_path: Path) -> None:
    runs = copied(swept, tmp_path)
    gone = planned(swept[0])[1].name
    shutil.rmtree(runs / gone)
    listed = posx("sweep", swept[0], "--dry-run", "--runs-dir", runs).stdout
    assert [line.split()[1] for line in listed.splitlines() if "to do" in line] == [gone]


def test_deleted_evaluations_are_missing_too(swept: tuple[Path, Path, str], tmp_path: Path) -> None:
    """``posx table`` reads them from the run, so that a sweep must not call them done."""
    runs = copied(swept, tmp_path)
    gone = planned(swept[0])[0].name
    shutil.rmtree(runs / gone / "eval")
    listed = posx("sweep", swept[0], "--dry-run", "--runs-dir", runs).stdout
    assert [line.split()[1] for line in listed.splitlines() if "to do" in line] == [gone]


def test_a_change_of_lengths_evaluates_and_does_not_train(
    swept: tuple[Path, Path, str], text: Path, tmp_path: Path
) -> None:
    runs = copied(swept, tmp_path)
    before = weights(runs)
    path = sweep_file(tmp_path / "s.yaml", text, schemes=["rope"], seeds=[0], extensions={}, lengths=["1x", "3x"])
    posx("sweep", path, "--runs-dir", runs)
    assert weights(runs) == before
    cells = json.loads((runs / "s.json").read_text("utf-8"))
    assert [(cell["length"], cell["extension"]) for cell in cells] == [(8, "none"), (24, "none")]


def test_a_cell_that_cannot_be_is_a_dash_and_not_a_failed_job(text: Path, tmp_path: Path) -> None:
    """Learned positions with no length that they reach: exit 0, a dash, and nothing to do again."""
    path = sweep_file(tmp_path / "s.yaml", text, schemes=["learned"], lengths=["2x"])
    first = posx("sweep", path, "--runs-dir", tmp_path / "runs")
    assert "learned positions end at" in first.stdout
    again = posx("sweep", path, "--runs-dir", tmp_path / "runs")
    assert "2 jobs, 0 to do" in " ".join(again.stderr.split())
