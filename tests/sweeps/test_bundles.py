"""Tests of ``posx.sweeps.bundles``: what a sweep takes from bundles, and what it trains nevertheless."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import posx.api as api
from fixtures.corpora import child_environment
from fixtures.models import posx
from fixtures.sweep_files import (
    planned,
    sweep_file,
    text,  # noqa: F401
)
from posx.errors import PosxError
from posx.results.records import read_records
from posx.runs.bundle_runs import bundled_runs
from posx.runs.directory import run_folders
from posx.runs.identity import cell_key
from posx.sweeps.bundles import select

torch.set_num_threads(1)

TUNED: dict[str, Any] = {
    "schemes": ["rope"],
    "seeds": [0],
    "extensions": {"rope": ["none", "pi"]},
    "finetune": {"context": "2x", "steps": [2], "extensions": {"rope": ["pi"]}, "control": False},
}


@pytest.fixture(autouse=True)
def children_import_this_posx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are separate processes."""
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])


@pytest.fixture(scope="module")
def swept(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A sweep of a run and its fine-tune: the file, its runs, and a bundle of them."""
    folder = tmp_path_factory.mktemp("sweep")
    path = sweep_file(folder / "s.yaml", text, **TUNED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
        posx("sweep", path, "--workers", 2, "--runs-dir", folder / "runs")
    posx("bundle", path, "--runs-dir", folder / "runs", "-o", folder / "slice")
    return path, folder / "runs", folder / "slice"


def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posx.sweeps.engines.local.subprocess.Popen", lambda *_, **__: pytest.fail("a job was started"))


def selected(path: Path, *bundles: Path) -> tuple[set[str], list[str]]:
    selection = select(api.plan_sweep(path), bundles, lambda text: None)
    return set(selection.jobs), list(selection.reasons.values())


def edit_lines(path: Path, change: Any) -> None:
    """Replace the lines of a JSON Lines file by what ``change`` makes of them."""
    lines = change([json.loads(line) for line in path.read_text("utf-8").splitlines()])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def test_a_whole_sweep_in_a_bundle_runs_nothing_and_prints_the_same_table(
    swept: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, runs, bundle = swept
    printed = posx("sweep", path, "--runs-dir", runs).stdout
    no_process(monkeypatch)
    result = posx("sweep", path, "--from-bundle", bundle, "--runs-dir", tmp_path / "runs")
    assert "2 jobs, 0 to do" in " ".join(result.stderr.split())
    assert result.stdout == printed
    assert (tmp_path / "runs" / "s.json").read_bytes() == (runs / "s.json").read_bytes()
    assert run_folders(tmp_path / "runs") == []
    assert f"posx report {bundle}" in result.stderr


def test_the_python_api_takes_bundles_too(
    swept: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, runs, bundle = swept
    no_process(monkeypatch)
    fresh = api.sweep(path, runs_dir=runs)
    taken = api.sweep(path, runs_dir=tmp_path / "runs", bundles=[str(bundle)])
    assert taken.to_markdown() == fresh.to_markdown()
    assert len(taken.records) == len(fresh.records) > 5


def test_a_slice_is_completed_by_what_is_missing(swept: tuple[Path, Path, Path], text: Path, tmp_path: Path) -> None:
    """Bundled runs and fresh ones stand in one table; only the fresh ones are trained."""
    _, _, bundle = swept
    path = sweep_file(tmp_path / "s.yaml", text, **(TUNED | {"schemes": ["rope", "alibi"]}))
    listed = posx("sweep", path, "--from-bundle", bundle, "--dry-run", "--runs-dir", tmp_path / "runs").stdout
    names = [job.name for job in planned(path)]
    rows = [next(line for line in listed.splitlines() if name in line) for name in names]
    states = [f"in {bundle}" in row for row in rows]
    assert states == [name.startswith("rope") for name in names]
    assert ["to do" in row for row in rows] == [not state for state in states]
    assert not (tmp_path / "runs").exists()
    posx("sweep", path, "--from-bundle", bundle, "--workers", 2, "--runs-dir", tmp_path / "runs")
    fresh = {folder.name for folder in run_folders(tmp_path / "runs")}
    assert fresh == {name for name in names if name.startswith("alibi")}
    cells = json.loads((tmp_path / "runs" / "s.json").read_text("utf-8"))
    tuned = "+ 2 steps at 16"
    assert {cell["label"] for cell in cells} == {"rope", "alibi", f"rope {tuned}", f"alibi {tuned}"}


def test_a_requested_evaluation_that_is_not_in_the_bundle_is_a_sentence(
    swept: tuple[Path, Path, Path], text: Path, tmp_path: Path
) -> None:
    path, _, bundle = swept
    longer = sweep_file(tmp_path / "s.yaml", text, **(TUNED | {"lengths": ["1x", "2x", "3x"], "finetune": {}}))
    jobs, reasons = selected(longer, bundle)
    assert jobs == set()
    (reason,) = reasons
    assert "lacks 2 of 6 requested evaluations, such as none at 24 tokens. A bundle holds no weights" in reason
    fewer = sweep_file(tmp_path / "s.yaml", text, **(TUNED | {"lengths": ["2x"], "finetune": {}}))
    assert selected(fewer, bundle) == ({planned(path)[0].name}, [])


def test_a_base_run_is_trained_again_for_a_finetune_that_is_missing(
    swept: tuple[Path, Path, Path], text: Path, tmp_path: Path
) -> None:
    _, _, bundle = swept
    more = sweep_file(tmp_path / "s.yaml", text, **(TUNED | {"finetune": TUNED["finetune"] | {"steps": [2, 3]}}))
    base, tuned, missing = [job.name for job in planned(more)]
    result = posx("sweep", more, "--from-bundle", bundle, "--dry-run", "--runs-dir", tmp_path / "runs")
    said = " ".join(result.stderr.split())
    assert f"{base} is in {bundle}, but {missing} starts from its weights, which a bundle does not hold" in said
    states = {
        name: next(line for line in result.stdout.splitlines() if name in line) for name in (base, tuned, missing)
    }
    assert ["to do" in states[name] for name in (base, tuned, missing)] == [True, False, True]
    # And nothing is trained again if the base run is here.
    runs = tmp_path / "here"
    shutil.copytree(swept[1], runs)
    listed = posx("sweep", more, "--from-bundle", bundle, "--dry-run", "--runs-dir", runs)
    assert [name in line for line in listed.stdout.splitlines() if "to do" in line for name in [missing]] == [True]
    assert "is trained again" not in listed.stderr


def test_a_run_that_was_bundled_unfinished_is_trained(swept: tuple[Path, Path, Path], tmp_path: Path) -> None:
    bundle = tmp_path / "slice"
    shutil.copytree(swept[2], bundle)
    edit_lines(
        bundle / "runs.jsonl", lambda lines: [line | {"meta": line["meta"] | {"finished": None}} for line in lines]
    )
    jobs, reasons = selected(swept[0], bundle)
    assert jobs == set()
    assert all("is unfinished in" in reason for reason in reasons)
    assert len(reasons) == 2


def test_evaluations_of_other_weights_do_not_complete_each_other(
    swept: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Two bundles hold half of the evaluations each: together they are a run, unless their weights differ."""
    path, _, whole = swept
    keys = [line["key"] for line in map(json.loads, (whole / "records.jsonl").read_text("utf-8").splitlines())]
    for half, keep in (("a", keys[::2]), ("b", keys[1::2])):
        shutil.copytree(whole, tmp_path / half)
        edit_lines(tmp_path / half / "records.jsonl", lambda lines, keep=keep: [x for x in lines if x["key"] in keep])
    halves = tmp_path / "a", tmp_path / "b"
    assert selected(path, halves[0])[0] == set()
    assert selected(path, *halves)[0] == set(bundled_runs(whole))

    def other_weights(lines: list[Any]) -> list[Any]:
        for line in lines:
            r = line["record"]
            r["checkpoint_sha256"] = "0" * 64
            cell = [r["extension"], r["extension_params"], r["length"], r["targets_sha256"], r["dtype"]]
            line["key"] = cell_key(r["checkpoint_sha256"], cell)
        return lines

    edit_lines(halves[1] / "records.jsonl", other_weights)
    assert selected(path, *halves)[0] == set()


def test_numbers_of_another_version_are_not_taken(
    swept: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posx.runs.identity.NUMERICS", "9.9.9")
    jobs, reasons = selected(swept[0], swept[2])
    assert jobs == set()
    assert all("a version of posx that computes other numbers" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "There is no bundle"),
        (lambda folder: (folder / "runs.jsonl").unlink(), "is not a bundle: it has no runs.jsonl"),
        (lambda folder: (folder / "runs.jsonl").write_text("{", "utf-8"), "runs.jsonl is damaged"),
        (lambda folder: (folder / "runs.jsonl").write_bytes(b"\xff\n"), "runs.jsonl is damaged"),
        (lambda folder: (folder / "runs.jsonl").write_text('{"name": "a"}\n', "utf-8"), "not written by this version"),
        (lambda folder: (folder / "records.jsonl").unlink(), "records.jsonl cannot be read"),
        (lambda folder: (folder / "records.jsonl").write_text("[]\n", "utf-8"), "not written by this version"),
        (
            lambda folder: edit_lines(
                folder / "records.jsonl", lambda lines: [x | {"record": x["record"] | {"schema": 99}} for x in lines]
            ),
            "is not a record of this version",
        ),
        (lambda folder: (folder / "sums.parquet").unlink(), "sums.parquet cannot be read"),
    ],
)
def test_what_is_not_a_whole_bundle_is_a_sentence(
    damage: Any, message: str, swept: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "slice"
    shutil.copytree(swept[2], bundle)
    damage(bundle)
    result = posx("sweep", swept[0], "--from-bundle", bundle, "--runs-dir", tmp_path / "runs", code=2)
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_what_is_done_here_comes_before_a_bundle(swept: tuple[Path, Path, Path]) -> None:
    path, runs, bundle = swept
    table = api.sweep(path, runs_dir=runs, bundles=[bundle])
    assert {record.path.parents[2] for record in table.records if record.path} == {runs}
    with pytest.raises(PosxError, match="There is no bundle"):
        api.sweep(path, runs_dir=runs, bundles=[bundle / "none"])
    assert read_records(bundle, [])
