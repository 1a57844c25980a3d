"""Tests of ``posx bundle``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fixtures.records import ROPE, Shelf, hardness
from posx.cli.app import app
from posx.config.compose import compose_settings, to_yaml
from posx.runs.directory import run_folders

KEPT = Path(__file__).resolve().parents[2] / "results" / "gain"


def test_a_bundle_of_a_bundle_has_its_table_and_a_picture(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bundle", str(KEPT), "-o", str(tmp_path / "kept")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "kept" / "table.md").read_text("utf-8") == (KEPT / "table.md").read_text("utf-8")
    assert (tmp_path / "kept" / "perplexity.svg").read_text("utf-8").startswith("<?xml")


def test_without_a_folder_to_write_it_is_a_sentence(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bundle", str(KEPT)])
    assert done.exit_code == 2
    assert "Missing -o" in done.output


def test_a_bundle_is_not_written_over_itself(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert CliRunner().invoke(app, ["bundle", str(KEPT), "-o", str(kept)]).exit_code == 0
    before = (kept / "records.jsonl").read_bytes()
    done = CliRunner().invoke(app, ["bundle", str(kept), "-o", str(kept)])
    assert done.exit_code == 2
    assert "where these runs are" in done.output
    assert (kept / "records.jsonl").read_bytes() == before


def posx_bundle(*arguments: object, code: int = 0) -> str:
    """What the command prints; a traceback is a failure."""
    done = CliRunner().invoke(app, ["bundle", *map(str, arguments)])
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return " ".join(done.output.split())


def test_an_empty_or_missing_folder_is_a_sentence(tmp_path: Path) -> None:
    target = tmp_path / "kept"
    (tmp_path / "empty").mkdir()
    assert "There are no runs in" in posx_bundle("-o", target, "--runs-dir", tmp_path / "empty", code=2)
    assert "There are no runs in" in posx_bundle("-o", target, "--runs-dir", tmp_path / "none", code=2)
    assert "is not a posx run" in posx_bundle(tmp_path / "empty", "-o", target, code=2)
    assert "rope-seed9" in posx_bundle(KEPT, "rope-seed9", "-o", target, code=2)
    assert not target.exists()


def test_several_bundles_become_one(tmp_path: Path) -> None:
    names = [folder.name for folder in run_folders(KEPT)]
    for part, own in (("a", names[:5]), ("b", names[5:])):
        posx_bundle(*(KEPT / name for name in own), "-o", tmp_path / part)
    posx_bundle(tmp_path / "a", tmp_path / "b", "-o", tmp_path / "whole")
    for name in ("sums.parquet", "curves.parquet", "metrics.parquet", "table.md", "perplexity.svg"):
        assert (tmp_path / "whole" / name).read_bytes() == (KEPT / name).read_bytes()
    assert "have the same name" in posx_bundle(tmp_path / "a", KEPT, "-o", tmp_path / "twice", code=2)


def test_a_sweep_finds_its_jobs_in_the_folders_that_are_named(tmp_path: Path) -> None:
    """And is stored in the bundle, unless that holds other runs too."""
    sweep = KEPT / "sweep.yaml"
    names = [folder.name for folder in run_folders(KEPT)]
    posx_bundle(*(KEPT / name for name in names[:5]), "-o", tmp_path / "a")
    posx_bundle(*(KEPT / name for name in names[5:]), "-o", tmp_path / "b")
    posx_bundle(sweep, tmp_path / "a", tmp_path / "b", "-o", tmp_path / "whole")
    assert (tmp_path / "whole" / "sweep.yaml").read_bytes() == sweep.read_bytes()
    assert (tmp_path / "whole" / "table.md").read_bytes() == (KEPT / "table.md").read_bytes()
    lacking = posx_bundle(sweep, tmp_path / "a", "-o", tmp_path / "part", "--runs-dir", tmp_path / "none", code=2)
    assert f"7 of 12 jobs of {sweep}" in lacking
    assert "Run them: posx sweep" in lacking


def test_runs_without_evaluations_and_unfinished_ones_are_named(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "runs")
    shelf.put(hardness(), **ROPE)
    config = to_yaml(compose_settings(["scheme=rope"]))
    for name in ("rope-seed0", "alibi-seed0"):
        folder = shelf.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(config, "utf-8")
    said = posx_bundle(shelf.folder, "-o", tmp_path / "kept")
    assert "Left out, since it has no evaluations: alibi-seed0." in said
    assert "Unfinished: rope-seed0." in said
    assert "1 runs, 1 evaluations" in said


def test_reproduce_does_not_train_into_a_bundle() -> None:
    """The commands behind a number of a bundle write to the default runs directory."""
    line = (KEPT / "records.jsonl").read_text("utf-8").splitlines()[0]
    key, run = json.loads(line)["key"], json.loads(line)["run"]
    done = CliRunner().invoke(app, ["reproduce", key, "--runs-dir", str(KEPT)])
    assert done.exit_code == 2
    train, evaluate = done.stdout.splitlines()
    assert train.startswith(f"posx train --name {run} ")
    assert evaluate.startswith(f"posx eval {run} ")
    assert "--runs-dir" not in done.stdout
    assert f"The weights of {run} are missing" in " ".join(done.stderr.split())
    assert "--from-scratch" in done.stderr


@pytest.mark.parametrize(
    "command",
    [["eval", "alibi-seed0-5d06a25b"], ["recommend", "alibi-seed0-5d06a25b", "--length", "4x"]],
    ids=["eval", "recommend"],
)
def test_a_run_in_a_bundle_has_no_weights(command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--runs-dir", str(KEPT)])
    assert done.exit_code == 2
    assert "which contains no weights" in done.output
    assert "posx reproduce" in done.output


def test_a_run_in_a_bundle_cannot_be_fine_tuned() -> None:
    done = CliRunner().invoke(app, ["train", "--from", "alibi-seed0-5d06a25b", "--runs-dir", str(KEPT)])
    assert done.exit_code == 2
    assert "which contains no weights" in done.output
