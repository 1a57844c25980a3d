"""Tests of ``posx.cli.train``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fixtures.commands import (
    refused,
    runs,  # noqa: F401
    text,  # noqa: F401 - a fixture
    there,  # noqa: F401
    tiny,  # noqa: F401
    tree,
)
from fixtures.corpora import trained
from fixtures.models import posx
from posx.cli.app import app
from posx.models.build import compose_run

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scheme", "rop"], "Did you mean rope"),
        (["data=wikitxt103"], "Did you mean wikitext103"),
        (["model=tinny"], "Did you mean tiny"),
        (["--scheme", "rope", "scheme=alibi"], "contradict"),
        (["--seed", "1", "train.seed=2"], "contradict"),
        (["train.stepz=3"], "Did you mean train.steps"),
        (["+train.stepz=3"], "Did you mean train.steps"),
        (["train.steps=ten"], "a whole number"),
        (["train.context=0"], "at least 2"),
        (["train.context=1"], "at least 2"),
        (["model.n_heads=3"], "does not divide"),
        (["model.head_dim=3"], "rope rotates pairs"),
        (["model.n_heads=16"], "rope rotates pairs"),
        (["tokenizer.vocab_size=100"], "at least 256"),
        (["eval.stride=2"], "posx eval"),
        (["rope"], "is not an override"),
        (["data.path=missing.txt"], "missing.txt"),
        (["data.path=empty.txt"], "empty.txt is empty"),
        (["data.path=latin.txt"], "byte 300 is 0xff"),
        (["data.path=short.txt"], "Add more text"),
        (["data.path=folder"], "no .txt"),
        (["data.path=broken.jsonl"], "line 1 is not JSON"),
        (["train.context=4000", "train.batch_tokens=4000"], "longest training document"),
        (["--name", "a/b"], "is not a valid name"),
        (["--name", "notarun"], "is not a posx run"),
        (["--name", "afile"], "afile"),
        (["--config-dir", "nowhere"], "not a directory"),
        (["--seed", "one"], "--seed"),
        (["--seed", "99999999999999999999"], "train.seed"),
        (["--runs-dir", "empty.txt"], "--runs-dir"),
        (["scheme._target_=os.system"], "--trust"),
    ],
)
def test_a_mistake_in_training_leaves_nothing(there: Path, tiny: list[str], arguments: list[str], says: str) -> None:
    Path("empty.txt").touch()
    Path("latin.txt").write_bytes(b"hello " * 50 + b"\xff" + b" there" * 50)
    Path("short.txt").write_text("too short")
    Path("broken.jsonl").write_text("{")
    Path("folder").mkdir()
    Path("runs/notarun").mkdir(parents=True)
    Path("runs/notarun/a").touch()
    Path("runs/afile").touch()
    before, folders = tree(there), sorted(p.name for p in Path("runs").iterdir())
    given = {a.partition("=")[0] for a in arguments}
    assert says in refused("train", *[o for o in tiny if o.partition("=")[0] not in given], *arguments)
    assert tree(there) == before
    assert sorted(p.name for p in Path("runs").iterdir()) == folders


def test_a_name_in_use_is_refused_and_kept(there: Path, tiny: list[str]) -> None:
    posx("train", *tiny, "--name", "a")
    before = tree(there)
    assert "--resume" in refused("train", *tiny, "--name", "a")
    assert tree(there) == before


def test_without_a_name_a_second_run_gets_its_own(there: Path, tiny: list[str]) -> None:
    for _ in range(2):
        posx("train", *tiny)
    assert sorted(p.name for p in (there / "runs").iterdir()) == ["rope-tiny-8-seed0", "rope-tiny-8-seed0-2"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optim.lr=1e30"], "diverged"),
        (["optim.lr=1000"], None),
        (["optim.lr=1e30", "train.steps=1"], "diverged"),
    ],
)
def test_training_that_diverges_says_so_and_crashes_nothing(
    there: Path, tiny: list[str], overrides: list[str], words: str | None
) -> None:
    """A loss of NaN, one too large for exp, and one that is only found by the last validation."""
    result = CliRunner().invoke(app, ["train", *tiny, *overrides, "--name", "a"])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.stderr
    if words is not None:
        assert result.exit_code == 1
        assert words in result.stderr
        assert "optim.lr" in result.stderr
        assert "finished run" in refused("eval")  # it counts as no result


def test_the_helpers_and_the_command_agree(there: Path, tiny: list[str]) -> None:
    """The run of a script and the run of the command are one: same weights, bit for bit."""
    posx("train", *tiny, "--name", "a")
    run = trained(there / "runs", "b", compose_run(tiny))
    one, other = (there / "runs" / n / "checkpoints" / "step-000003" / "model.safetensors" for n in ("a", run.name))
    assert one.read_bytes() == other.read_bytes()
