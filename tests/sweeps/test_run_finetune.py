"""Tests of ``posx.sweeps.run``: controls and fine-tunes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.corpora import child_environment
from fixtures.finetuned_runs import (
    planned,
    posx,
    runs,  # noqa: F401
    sweep_file,
    text,  # noqa: F401
)
from posx.results.records import read_records
from posx.runs.directory import open_run
from posx.utils.files import sha256_file

BOOM = {"scheme": "rope", "label": "boom", "overrides": ["optim.lr=1e30", "optim.grad_clip=0"]}


@pytest.fixture(scope="module")
def swept(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A sweep with a row that diverges first: the file without that row, the runs, and what the command said."""
    folder = tmp_path_factory.mktemp("sweep")
    both = sweep_file(folder / "both.yaml", text, schemes=[BOOM, "rope"], controls=[])
    path = sweep_file(folder / "s.yaml", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
        failing = posx("sweep", both, "--workers", 2, "--runs-dir", folder / "runs", code=1)
        posx("sweep", path, "--workers", 2, "--runs-dir", folder / "runs")
    return path, folder / "runs", failing


def test_a_second_sweep_with_a_control_and_finetunes_does_nothing(
    swept: tuple[Path, Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, runs, _ = swept
    monkeypatch.setattr("posx.sweeps.engines.local.subprocess.Popen", lambda *_, **__: pytest.fail("a job was started"))
    result = posx("sweep", path, "--runs-dir", runs)
    assert "4 jobs, 0 to do" in " ".join(result.stderr.split())
    listed = posx("sweep", path, "--dry-run", "--runs-dir", runs).stdout
    assert (listed.count("done"), listed.count("to do")) == (4, 0)


def test_jobs_begin_after_the_run_whose_weights_they_start_from(swept: tuple[Path, Path, Any]) -> None:
    path, runs, _ = swept
    after = [job for job in planned(path) if job.after]
    assert len(after) == 2
    for job in after:
        assert job.after is not None
        done = (runs / ".jobs" / f"{job.after}.done").stat().st_mtime_ns
        assert (runs / job.name / "config.yaml").stat().st_mtime_ns > done
        (checkpoint,) = (runs / job.after / "checkpoints").glob("step-*")
        run = open_run(runs / job.name)
        assert run.config.start.weights_sha256 == sha256_file(checkpoint / "model.safetensors")
        assert run.config.start.run == job.after


def test_base_controls_and_finetunes_are_scored_on_the_same_targets(swept: tuple[Path, Path, Any]) -> None:
    path, runs, _ = swept
    jobs = planned(path)
    records = read_records(runs, [job.name for job in jobs])
    assert len({r.targets_sha256 for r in records}) == 1
    assert {(r.stride, r.target_context, r.n_targets) for r in records} == {(1, 64, 64)}
    cells = {(r.base_context, r.train_context, r.train_extension, r.extension, r.length) for r in records}
    # And the first point of the curve over steps: what the fine-tune is trained with, at its scale, untrained.
    assert cells - {(8, 8, "none", "pi(s=4)", length) for length in (8, 32)} == {
        (8, 8, "none", "none", 8),  # the base run, and its control with the same extra tokens
        (8, 8, "none", "none", 32),
        (8, 8, "none", "pi", 8),
        (8, 8, "none", "pi", 32),
        (32, 32, "none", "none", 8),
        (32, 32, "none", "none", 32),
        (8, 32, "pi(s=4)", "trained", 8),
        (8, 32, "pi(s=4)", "trained", 32),
    }
    base, long = ({r.recipe_sha256 for r in records if r.run == jobs[n].name} for n in (0, 1))
    assert base == long
    assert {r.parent_sha256 for r in records if r.run in (jobs[2].name, jobs[3].name)} == {
        r.config_sha256 for r in records if r.run == jobs[0].name
    }
    assert len({r.label for r in records if r.run in (jobs[0].name, jobs[1].name)}) == 1


def test_a_first_run_that_fails_takes_its_finetunes_along_and_no_others(
    swept: tuple[Path, Path, Any], text: Path, tmp_path: Path
) -> None:
    _, runs, failing = swept
    path = sweep_file(tmp_path / "both.yaml", text, schemes=[BOOM, "rope"], controls=[])
    jobs = planned(path)
    assert [bool(job.after) for job in jobs] == [False, True, True] * 2
    words = " ".join(failing.stderr.split())
    assert "3 of 6 jobs failed" in words
    assert "Training diverged at step" in words
    for job in jobs[1:3]:
        log = (runs / ".jobs" / f"{job.name}.log").read_text("utf-8")
        assert log == f"not started: {job.after}, whose weights it requires, failed\n"
        assert not (runs / job.name).exists()
        assert f"{job.name} failed: not started" in words
    assert all((runs / ".jobs" / f"{job.name}.done").is_file() for job in jobs[3:])
