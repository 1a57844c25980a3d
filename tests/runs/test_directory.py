"""Tests of ``posx.runs.directory``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fixtures.corpora import corpus_of, tiny_config
from fixtures.trainings import (
    STEPS,
    text,  # noqa: F401
    unbroken,  # noqa: F401
)
from posx.errors import PosxError
from posx.runs.directory import Run, create
from posx.training.loop import train
from posx.utils.console import Display


@pytest.mark.parametrize(
    "override, sentence",
    [
        ("train.steps=13", "train.steps was 12, now 13"),
        ("optim.lr=0.02", "optim.lr was 0.01, now 0.02"),
        ("train.seed=1", "train.seed was 0, now 1"),
        ("model.d_model=64", "model.d_model was 32, now 64"),
        ("scheme=rope", "scheme."),
        ("tokenizer.vocab_size=301", "tokenizer.vocab_size was 300, now 301"),
        ("data.max_bytes=9999", "data.max_bytes was None, now 9999"),
    ],
)
def test_resuming_with_different_settings_is_refused(
    text: Path, unbroken: Run, tmp_path: Path, override: str, sentence: str
) -> None:
    shutil.copytree(unbroken.path, tmp_path / "run")
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*"))
    with pytest.raises(PosxError, match="other settings") as caught:
        create(tmp_path, "run", tiny_config(text, "scheme=learned", *STEPS, override), resume=True)
    assert sentence in str(caught.value)
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*")) == before


def test_resuming_with_a_different_number_of_threads_is_allowed(text: Path, unbroken: Run, tmp_path: Path) -> None:
    shutil.copytree(unbroken.path, tmp_path / "run")
    config = tiny_config(text, "scheme=learned", *STEPS, "train.threads=2", "train.log_every=3", "label=mine")
    assert create(tmp_path, "run", config, resume=True).config.train.threads == 2


def test_an_existing_name_without_resume_is_refused(text: Path, unbroken: Run) -> None:
    with pytest.raises(PosxError, match="--resume"):
        create(unbroken.path.parent, "run", unbroken.config, resume=False)


def test_two_processes_cannot_lock_the_same_run(text: Path, tmp_path: Path) -> None:
    config = tiny_config(text, *STEPS)
    run = create(tmp_path, "run", config, resume=False)

    class Second(Display):
        def update(self, done: int, note: str = "") -> None:
            if done == 1:
                with pytest.raises(PosxError, match="Another process"):
                    train(run, corpus_of(config), Display(quiet=True))

    train(run, corpus_of(config), Second(quiet=True))
    assert run.finished
