"""Tests of ``posx.training.resume``."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from fixtures.corpora import TINY, child_environment, python, tiny_config, trained
from fixtures.trainings import (
    STEPS,
    crashed,
    same_run,
    text,  # noqa: F401
    unbroken,  # noqa: F401
)
from posx.runs.directory import Run, metrics, open_run

INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from fixtures.corpora import TINY, child_environment, corpus_of, tiny_config
from posx.utils.console import Display
from posx.runs.directory import create
from posx.training.loop import Interrupted, train

class Kill(Display):
    def update(self, done, note=""):
        if done == 5:
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))

config = tiny_config(Path(sys.argv[2]), *sys.argv[4:])
try:
    train(create(Path(sys.argv[3]), "run", config, False), corpus_of(config), Kill(quiet=True))
except Interrupted as error:
    print(error)
    sys.exit(error.code)
"""


def test_a_signal_saves_and_resuming_repeats_the_unbroken_run(text: Path, unbroken: Run, tmp_path: Path) -> None:
    overrides = ["scheme=learned", "train.steps=12", "train.log_every=1"]  # no checkpoint but the signal's
    done = python(INTERRUPTED, "SIGTERM", text, tmp_path, *overrides)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "--resume" in done.stdout
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000005"]
    assert open_run(tmp_path / "run").step == 5
    same_run(trained(tmp_path, "run", tiny_config(text, *overrides), resume=True), unbroken)


def test_an_interrupted_command_leaves_the_weights_of_its_last_step(text: Path, tmp_path: Path) -> None:
    """``posx train`` and Ctrl-C, whenever it comes: the same as a run that was never to go further."""
    overrides = ["data=text", f"data.path={text}", *TINY, "train.steps=100000", "train.log_every=1"]
    command = [sys.executable, "-m", "posx", "train", "--name", "run", "--runs-dir", str(tmp_path), *overrides]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=child_environment()) as child:
        until = time.monotonic() + 45
        log = tmp_path / "run" / "metrics.jsonl"
        while not (log.is_file() and log.stat().st_size) and child.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
    assert child.returncode == 128 + signal.SIGINT, said
    assert "--resume" in said
    assert "Traceback" not in said
    run = open_run(tmp_path / "run")
    assert run.step == metrics(run)[-1]["step"] > 0
    config = tiny_config(text, "train.steps=100000", "train.log_every=1", f"train.checkpoint_every={run.step}")
    other = crashed(tmp_path / "other", config, run.step + 1)
    for part in ("model.safetensors", "optimizer.safetensors"):
        left, right = (load_file(r.checkpoints / f"step-{run.step:06d}" / part) for r in (run, other))
        assert left.keys() == right.keys()
        assert [name for name in left if not torch.equal(left[name], right[name])] == []


def test_after_a_crash_the_newest_checkpoint_is_continued(text: Path, unbroken: Run, tmp_path: Path) -> None:
    """Lines of the steps that are repeated must not stand twice."""
    config = tiny_config(text, "scheme=learned", *STEPS)
    run = crashed(tmp_path, config, 8)
    assert [row["step"] for row in metrics(run)] == list(range(1, 9))
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "nats_per')  # cut off in the middle of a line
    assert run.step == 5
    same_run(trained(tmp_path, "run", config, resume=True), unbroken)


def test_a_crash_before_the_first_checkpoint_starts_afresh(text: Path, unbroken: Run, tmp_path: Path) -> None:
    config = tiny_config(text, "scheme=learned", *STEPS)
    assert crashed(tmp_path, config, 4).step == 0
    same_run(trained(tmp_path, "run", config, resume=True), unbroken)


def test_resuming_a_finished_run_changes_nothing(text: Path, unbroken: Run, tmp_path: Path) -> None:
    shutil.copytree(unbroken.path, tmp_path / "run")
    same_run(trained(tmp_path, "run", unbroken.config, resume=True), unbroken)
