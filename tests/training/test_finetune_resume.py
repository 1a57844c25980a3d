"""Tests of ``posx.training.finetune``: resume."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from fixtures.corpora import corpus_of, python
from fixtures.finetuned_runs import (
    INTERRUPTED,
    TO_4X,
    finetune,
    own,  # noqa: F401
    posx,
    runs,  # noqa: F401 - a fixture
    same_run,
    text,  # noqa: F401 - a fixture
)
from posx.runs.directory import create, open_run
from posx.training.finetune import compose_finetune, with_weights
from posx.training.loop import train
from posx.utils.console import Display


def test_a_signal_saves_and_resuming_repeats_the_unbroken_finetune(own: Path) -> None:
    done = python(INTERRUPTED, own, *TO_4X, "train.extension=pi")
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert open_run(own / "broken").step == 4
    again = shutil.copytree(own / "broken", own / "alone" / "broken")
    run = finetune(own, "rope", "broken", *TO_4X, "--extension", "pi", "--resume")
    same_run(run, open_run(own / "rope-pi"))
    # With a checkpoint of its own it needs its first run no longer.
    alone = open_run(again)
    train(alone, corpus_of(alone.config), Display(quiet=True))
    same_run(alone, open_run(own / "rope-pi"))


class Crash(BaseException):
    """The machine went away."""


class CrashAt(Display):
    def __init__(self, step: int):
        super().__init__(quiet=True)
        self.step = step

    def update(self, done: int, note: str = "") -> None:
        if done == self.step:
            raise Crash


def test_a_crash_before_the_first_checkpoint_starts_from_the_first_run_again(own: Path) -> None:
    first = open_run(own / "rope")
    config = with_weights(compose_finetune(first.config, "rope", [*TO_4X, "train.extension=pi"]), first)
    run = create(own, "crashed", config, resume=False)
    with pytest.raises(Crash):
        train(run, corpus_of(config), CrashAt(3))
    same_run(finetune(own, "rope", "crashed", *TO_4X, "--extension", "pi", "--resume"), open_run(own / "rope-pi"))


def test_a_finished_finetune_is_left_alone(own: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (own / "rope-pi").rglob("*")}
    result = posx(
        "train", "--from", "rope", "--extension", "pi", *TO_4X, "--name", "rope-pi", "--resume", "--runs-dir", own
    )
    assert "is finished" in result.stderr
    assert {p: p.stat().st_mtime_ns for p in (own / "rope-pi").rglob("*")} == before
