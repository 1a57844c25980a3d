"""Tests of ``posx.sweeps.plan``: recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.corpora import silent
from fixtures.finetuned_runs import SMALL, sweep_file
from fixtures.models import posx
from fixtures.recipe_runs import (
    runs,  # noqa: F401
    text,  # noqa: F401
)
from posx.config.catalog import PACKAGED
from posx.sweeps.plan import JobPlan, read_sweep


def jobs_of(path: Path) -> list[JobPlan]:
    return read_sweep(path, [], silent, PACKAGED).jobs


def test_a_sweep_plans_recipes(tmp_path: Path, text: Path) -> None:
    """pose with each extension, at the old context up to the new one; drop once, without; the control as ever."""
    tune = {"context": "4x", "steps": [1, 2], "extensions": {"rope": ["none", "pi"]}, "control": True}
    plain = jobs_of(sweep_file(tmp_path / "a.yaml", text, controls=[], finetune=tune))
    told = {**tune, "recipes": {"rope": ["none"]}}
    same_names = jobs_of(sweep_file(tmp_path / "b.yaml", text, controls=[], finetune=told))
    assert [job.name for job in plain] == [job.name for job in same_names]
    more = {**tune, "recipes": {"rope": ["none", "pose", "drop"]}}
    jobs = jobs_of(sweep_file(tmp_path / "c.yaml", text, controls=[], finetune=more))
    assert {job.name for job in plain} < {job.name for job in jobs}
    added = [job for job in jobs if job.name not in {one.name for one in plain}]
    kinds = {
        (t.recipe, t.context, t.reach, t.extension, t.steps, job.config.scheme["name"])
        for job in added
        for t in [job.config.train]
    }
    assert kinds == {
        row
        for steps in (1, 2)
        for row in (
            ("pose", 8, 32, "none", steps, "rope"),
            ("pose", 8, 32, "pi(s=4)", steps, "rope"),
            ("drop", 8, None, "none", steps, "nope"),
        )
    }
    assert len(added) == len(kinds)
    assert {job.after for job in added} == {jobs[0].name}


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown row": ({"recipes": {"rop": ["pose"]}}, "in s.yaml for the recipes. Did you mean rope"),
    "an unknown recipe": ({"recipes": {"rope": ["poze"]}}, "Did you mean pose"),
    "the same twice": ({"recipes": {"rope": ["drop", "drop"]}}, "the same run twice"),
    "a list": ({"recipes": ["pose"]}, "finetune.recipes takes keys and values"),
    "an override": ({"overrides": ["train.recipe=pose"]}, "Change its field 'finetune.recipes' instead"),
    "a reach": ({"overrides": ["train.reach=64"]}, "Change its field 'finetune.context' instead"),
    "no longer context": ({"context": "1x", "recipes": {"rope": ["pose"]}}, "train.reach=8 was given"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_sweep_is_a_sentence_before_any_work(
    tmp_path: Path, text: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, says = BROKEN[what]
    monkeypatch.chdir(tmp_path)
    sweep_file(tmp_path / "s.yaml", text, controls=[], finetune={"context": "4x", "steps": [1], **changes})
    result = posx("sweep", "s.yaml", "--dry-run", "--runs-dir", tmp_path / "runs", code=2)
    assert says in " ".join(result.stderr.split())
    assert not (tmp_path / "runs").exists()


def test_a_recipe_that_does_not_fit_a_row_is_refused_before_any_work(tmp_path: Path, text: Path) -> None:
    tune = {"context": "4x", "steps": [1], "recipes": {"alibi": ["drop"]}}
    values = {"schemes": ["alibi"], "overrides": [*SMALL, f"data.path={text}"], "lengths": ["1x"], "finetune": tune}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(values), "utf-8")
    result = posx("sweep", tmp_path / "s.yaml", "--dry-run", "--runs-dir", tmp_path / "runs", code=2)
    assert "does not support alibi" in result.stderr
    assert not (tmp_path / "runs").exists()
