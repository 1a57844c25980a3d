"""Tests of ``posx.sweeps.plan``: finetune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.corpora import silent
from fixtures.finetuned_runs import (
    own,  # noqa: F401
    planned,
    posx,
    runs,  # noqa: F401
    sweep_file,
    text,  # noqa: F401
)
from posx.config.catalog import PACKAGED
from posx.sweeps.plan import read_sweep


def test_a_sweep_plans_controls_and_finetunes(tmp_path: Path, text: Path) -> None:
    finetunes = {"context": "4x", "steps": [1, 2], "extensions": {"rope": ["none", "pi", "ntk"]}, "control": True}
    jobs = planned(sweep_file(tmp_path / "s.yaml", text, seeds=[0, 1], finetune=finetunes))
    per_seed = 1 + 1 + 2 * (3 + 1)
    assert len(jobs) == len({job.name for job in jobs}) == 2 * per_seed
    for seed in (0, 1):
        own = [job for job in jobs if job.config.train.seed == seed]
        (first,) = (j for j in own if j.after is None and j.config.train.context == 8)
        (long,) = (j for j in own if j.after is None and j.config.train.context == 32)
        assert (first.config.start.run, long.config.base_context) == ("", 32)
        rest = [job for job in own if job not in (first, long)]
        assert {job.after for job in rest} == {first.name}
        kinds = {(j.config.train.steps, j.config.train.context, j.config.train.extension) for j in rest}
        longer = {(steps, 32, extension) for steps in (1, 2) for extension in ("none", "pi(s=4)", "ntk(s=4)")}
        assert kinds == longer | {(steps, 8, "none") for steps in (1, 2)}
        assert all(job.config.base_context == 8 for job in rest)
        assert jobs.index(first) < min(map(jobs.index, rest))


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a control that is not evaluated": (
        {"controls": ["2x"]},
        "the control 2x is not an evaluation length beyond 1x",
    ),
    "a control at 1x": ({"controls": ["1x"]}, "the control 1x is not an evaluation length"),
    "no steps": ({"finetune": {"context": "4x"}}, "finetune requires a context and steps"),
    "no context": ({"finetune": {"steps": [3]}}, "finetune requires a context and steps"),
    "an unknown row": (
        {"finetune": {"context": "4x", "steps": [1], "extensions": {"rop": ["pi"]}}},
        "Did you mean rope",
    ),
    "an unknown key": ({"finetune": {"contxt": "4x", "steps": [1]}}, "Did you mean finetune.context"),
    "an extension that does not fit": (
        {"finetune": {"context": "4x", "steps": [1], "extensions": {"rope": ["interpolate"]}}},
        "does not fit rope",
    ),
    "no whole tokens": ({"finetune": {"context": "1.3x", "steps": [1]}}, "not a whole number of tokens"),
    "negative steps": ({"finetune": {"context": "4x", "steps": [-1]}}, "train.steps=-1 is too small"),
    "the same steps twice": ({"finetune": {"context": "4x", "steps": [1, 1]}}, "the same run twice"),
    "another model": (
        {"finetune": {"context": "4x", "steps": [1], "overrides": ["model.d_model=32"]}},
        "model.d_model=32 cannot change in a fine-tune",
    ),
    "a seed of its own": ({"finetune": {"context": "4x", "steps": [1], "overrides": ["train.seed=3"]}}, "seeds"),
    "more than a document": (
        {"finetune": {"context": "300", "steps": [1], "overrides": ["train.batch_tokens=300"]}},
        "longest training document",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_sweep_is_a_sentence_before_any_work(tmp_path: Path, text: Path, what: str) -> None:
    settings, says = BROKEN[what]
    path = sweep_file(tmp_path / "s.yaml", text, **settings)
    result = posx("sweep", path, "--dry-run", "--runs-dir", tmp_path / "runs", code=2)
    message = result.stderr.partition("Error: ")[2]
    assert says in " ".join(message.split())
    assert len([line for line in message.splitlines() if line.strip()]) in (1, 2)
    assert not (tmp_path / "runs").exists()


def test_learned_positions_that_cannot_be_tuned_are_refused_before_any_work(tmp_path: Path, text: Path) -> None:
    """A table of 8 rows at 32 tokens, without an extension: not after the base run has been trained for an hour."""
    path = sweep_file(
        tmp_path / "s.yaml",
        text,
        schemes=["learned"],
        extensions={},
        controls=[],
        finetune={"context": "4x", "steps": [2], "control": False},
    )
    result = posx("sweep", path, "--dry-run", "--runs-dir", tmp_path / "runs", code=2)
    assert "interpolate" in result.stderr


def test_no_steps_are_the_first_run_itself(tmp_path: Path, text: Path) -> None:
    """A curve is asked for as 0, 50, 200: its first point needs no training."""
    tune = {"context": "4x", "steps": [0, 2], "control": False}
    path = sweep_file(tmp_path / "s.yaml", text, controls=[], finetune=tune)
    jobs = read_sweep(path, [], silent, PACKAGED).jobs
    assert {job.config.train.steps for job in jobs if job.after} == {2}
