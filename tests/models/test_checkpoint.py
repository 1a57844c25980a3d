"""Tests of ``posx.models.checkpoint``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fixtures.corpora import python, tiny_config, trained
from fixtures.trainings import (
    STEPS,
    crashed,
    same_run,
    text,  # noqa: F401
    unbroken,  # noqa: F401
)
from posx.errors import PosxError
from posx.models import checkpoint as checkpoints
from posx.models.build import build_model
from posx.runs.directory import Run, open_run


def test_folder_without_a_manifest_is_ignored(text: Path, unbroken: Run, tmp_path: Path) -> None:
    config = tiny_config(text, "scheme=learned", *STEPS)
    run = crashed(tmp_path, config, 8)
    half = run.checkpoints / "step-000009"
    shutil.copytree(run.checkpoints / "step-000005", half)
    (half / "manifest.json").unlink()
    found = checkpoints.newest(run.checkpoints)
    assert found is not None
    assert (found.step, run.step) == (5, 5)
    same_run(trained(tmp_path, "run", config, resume=True), unbroken)


def test_a_flipped_byte_is_caught(unbroken: Run, tmp_path: Path) -> None:
    shutil.copytree(unbroken.path, tmp_path / "run")
    found = checkpoints.newest(tmp_path / "run" / "checkpoints")
    assert found is not None
    path = found.path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # in the values: the file still opens, with different weights
    path.write_bytes(content)
    model = build_model(unbroken.config, unbroken.meta["vocab_size"])
    with pytest.raises(PosxError) as caught:
        checkpoints.load_weights(found, model)
    assert str(path) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("part", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_part_stops_a_resumed_run(text: Path, tmp_path: Path, part: str) -> None:
    config = tiny_config(text, *STEPS)
    run = crashed(tmp_path, config, 6)
    path = run.checkpoints / "step-000005" / part
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(PosxError) as caught:
        trained(tmp_path, "run", config, resume=True)
    assert str(path) in str(caught.value)


def test_no_pickle_in_a_run(unbroken: Run) -> None:
    files = [p for p in unbroken.path.rglob("*") if p.is_file()]
    assert {p.suffix or p.name for p in files} <= {".json", ".jsonl", ".yaml", ".safetensors", ".lock"}
    names = {p.name for p in files}
    assert {"config.yaml", "tokenizer.json", "meta.json", "metrics.jsonl", "manifest.json", "state.json"} <= names
    for path in files:
        begins = path.read_bytes()[:2]
        assert begins[:1] != b"\x80", f"{path} is a pickle"
        assert begins != b"PK", f"{path} is a zip, as torch.save writes"
        assert not path.name.startswith(".") or path.name == ".lock", f"{path} is temporary"


FULL = """
import resource, signal, sys
from pathlib import Path
from fixtures.corpora import TINY, child_environment, corpus_of, tiny_config
from posx.errors import PosxError
from posx.utils.console import Display
from posx.runs.directory import create
from posx.training.loop import train

class Fill(Display):
    def update(self, done, note=""):
        if done == 7:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))

config = tiny_config(Path(sys.argv[1]), *sys.argv[4:])
corpus = corpus_of(config)
run = create(Path(sys.argv[2]), "run", config, False)
try:
    train(run, corpus, Fill(quiet=True))
except PosxError as error:
    print(error)
    sys.exit(error.code)
"""


def test_full_disk_preserves_the_previous_checkpoint(text: Path, unbroken: Run, tmp_path: Path) -> None:
    """There is space for the weights and part of the optimizer's moments."""
    overrides = ["scheme=learned", *STEPS]
    done = python(FULL, text, tmp_path, 200_000, *overrides)
    run = open_run(tmp_path / "run")
    assert [p.name for p in run.checkpoints.iterdir()] == ["step-000005"]
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stdout, done.stderr
    assert "--resume" in done.stdout
    same_run(trained(tmp_path, "run", tiny_config(text, *overrides), resume=True), unbroken)
