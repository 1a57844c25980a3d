"""Tests of ``posx.training.recipes``: names, labels and records of runs."""

from __future__ import annotations

import shlex
import shutil
import signal
from pathlib import Path

import pytest

from fixtures.corpora import python
from fixtures.finetuned_runs import INTERRUPTED, same, same_run, tuned, weights
from fixtures.models import posx
from fixtures.recipe_runs import (
    DROP,
    MORE,
    POSE,
    REACH,
    L,
    own,  # noqa: F401
    runs,  # noqa: F401
    text,  # noqa: F401 - a fixture
)
from posx.models.binding import bind, parse_extension
from posx.models.build import build_model
from posx.reporting.reproduce import train_command
from posx.results.records import Record, read_records
from posx.runs.directory import Run, open_run
from posx.runs.identity import group_hash
from posx.training.finetune import compose_finetune, default_name


def test_records_and_labels_name_the_recipe(own: Path) -> None:
    """With the 1x control, on the targets of the first run."""
    names = ["rope", "rope-pose", "rope-drop"]
    asked = ["--length", "4x", "eval.max_targets=64"]
    for name in names:
        shutil.rmtree(own / name / "eval", ignore_errors=True)
        posx("eval", name, *asked, "--runs-dir", own)
    found: dict[str, list[Record]] = {name: read_records(own, [name]) for name in names}
    assert {(name, r.length) for name in names for r in found[name]} == {(n, x) for n in names for x in (L, 4 * L)}
    assert len({r.targets_sha256 for records in found.values() for r in records}) == 1
    said = {name: (r[0].label, r[0].train_recipe, r[0].train_reach, r[0].recipe) for name, r in found.items()}
    assert said == {
        "rope": ("rope", "none", None, ""),
        "rope-pose": ("rope + 6 steps at 16, pose to 64", "pose", REACH, "pose to 64"),
        "rope-drop": ("rope, dropped + 6 steps at 16", "drop", None, "positions dropped"),
    }
    tuned_ones = [*found["rope-pose"], *found["rope-drop"]]
    assert {r.parent_sha256 for r in tuned_ones} == {found["rope"][0].config_sha256}
    assert {(r.base_context, r.train_context, r.train_tokens) for r in tuned_ones} == {(L, L, MORE * 128)}
    assert len({r.config_sha256 for records in found.values() for r in records}) == 3
    shown = posx("table", "--format", "md", "--runs-dir", own).stdout
    assert "rope, dropped + 6 steps at 16" in shown
    assert "rope + 6 steps at 16, pose to 64" in shown


def test_names_of_folders_tell_recipes_apart(runs: Path) -> None:
    base = open_run(runs / "rope").config
    names = [
        default_name(compose_finetune(base, "rope", overrides))
        for overrides in ([*POSE, "train.extension=pi"], POSE, DROP, [f"train.steps={MORE}"])
    ]
    assert names == ["rope-pi-s-4-pose64-16-6steps", "rope-pose64-16-6steps", "rope-drop-16-6steps", "rope-16-6steps"]


@pytest.mark.parametrize("name", ["rope-pose", "rope-drop"])
def test_the_command_of_a_run_says_its_recipe(runs: Path, name: str) -> None:
    """Its overrides, through the same composition, give the same config."""
    run = open_run(runs / name)
    words = shlex.split(train_command(run, []))
    overrides = [word for word in words if "=" in word]
    assert words[:6] == ["posx", "train", "--name", name, "--from", "rope"]
    assert f"train.recipe={run.config.train.recipe}" in overrides
    again = tuned(open_run(runs / "rope"), *overrides)
    assert group_hash(again) == group_hash(run.config)
    assert again.label == run.config.label


def test_it_is_reproduced(own: Path) -> None:
    """Both trainings again from the config alone, and the number."""
    posx("eval", "rope-pose", "--length", "4x", "eval.max_targets=64", "--runs-dir", own)
    key = next(r.key for r in read_records(own, ["rope-pose"]) if r.length == 4 * L)
    posx("reproduce", key, "--from-scratch", "--runs-dir", own)


def test_a_finetune_of_a_pose_run_goes_on_with_it_and_of_a_dropped_one_does_not(runs: Path) -> None:
    """As the extension and the context do; what is dropped is dropped."""
    pose, dropped = (open_run(runs / name).config for name in ("rope-pose", "rope-drop"))
    train = compose_finetune(pose, "rope-pose", []).train
    assert (train.recipe, train.reach, train.extension) == ("pose", REACH, "pi(s=4)")
    train = compose_finetune(pose, "rope-pose", ["train.recipe=none", "train.context=4x"]).train
    assert (train.recipe, train.reach, train.reached, train.extension) == ("none", None, REACH, "pi(s=4)")
    again = compose_finetune(dropped, "rope-drop", [])
    assert (again.train.recipe, again.scheme["name"]) == ("none", "nope")
    assert again.label == "rope, dropped + 6 steps at 16 + 1 steps at 16"


@pytest.mark.parametrize("name, overrides", [("rope-pose", [*POSE, "train.extension=pi"]), ("rope-drop", DROP)])
def test_a_signal_saves_and_resuming_repeats_the_unbroken_run(own: Path, name: str, overrides: list[str]) -> None:
    """To the bit: text, cuts and skips of a step are drawn from its number alone."""
    done = python(INTERRUPTED, own, *overrides)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert open_run(own / "broken").step == 4
    posx("train", "--from", "rope", "--name", "broken", "--resume", *overrides, "--runs-dir", own)
    same_run(open_run(own / "broken"), open_run(own / name))
    assert not same(weights(open_run(own / name)), weights(open_run(own / "rope")))


def test_a_recipe_and_its_reach_are_in_the_hash(runs: Path) -> None:
    base = open_run(runs / "rope").config
    few = f"train.steps={MORE}"
    configs = [compose_finetune(base, "rope", o) for o in ([few], POSE, [*POSE, "train.reach=32"], DROP)]
    assert len({group_hash(config) for config in configs}) == 4


def test_reached_is_the_context_without_pose(runs: Path) -> None:
    """And extensions bind to it as they always did."""
    run: Run = open_run(runs / "rope")
    assert run.config.train.reached == L
    scheme = build_model(run.config, 300).scheme
    bound = bind(parse_extension("pi"), scheme, 40, (), run.config.train.reached)
    assert bound.target.scale == 40 / L
