"""Tests of ``posx.training.finetune``: refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from fixtures.corpora import TINY, corpus_of, sentence, write_jsonl
from fixtures.finetuned_runs import (
    STEPS,
    TO_4X,
    own,  # noqa: F401
    posx,
    runs,  # noqa: F401
    text,  # noqa: F401 - a fixture
    weights,
)
from posx.cli.app import app
from posx.errors import PosxError
from posx.runs.directory import Run, create, open_run
from posx.training.finetune import compose_finetune, with_weights
from posx.training.loop import train
from posx.utils.console import Display
from posx.utils.files import sha256_file


def refused(runs: Path, *arguments: object, code: int = 2) -> str:
    """The sentence of a ``posx train`` that leaves no run behind."""
    before = {p.name for p in runs.iterdir()}
    result = posx("train", *arguments, "--runs-dir", runs, code=code)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    message = result.stderr.partition("Error: ")[2]
    assert len([line for line in message.splitlines() if line.strip()]) in (1, 2), result.stderr
    assert {p.name for p in runs.iterdir()} == before
    return " ".join(message.split())


REFUSED: dict[str, tuple[list[str], str]] = {
    "missing": (["--from", "rop"], "There is no run 'rop'"),
    "another model": (["--from", "rope", "model.d_model=64"], "model.d_model=64 cannot change in a fine-tune"),
    "another text": (["--from", "rope", "data.max_bytes=9"], "data.max_bytes=9 cannot change in a fine-tune"),
    "another tokenizer": (["--from", "rope", "tokenizer.vocab_size=270"], "cannot change in a fine-tune"),
    "another scheme": (["--from", "rope", "scheme=alibi"], "scheme=alibi cannot change in a fine-tune"),
    "another scheme by flag": (["--from", "rope", "--scheme", "alibi"], "cannot change in a fine-tune"),
    "a setting of the scheme": (["--from", "rope", "scheme.base=500"], "scheme.base=500 cannot change"),
    "a whole group": (["--from", "rope", "model=small"], "model=small cannot change"),
    "the start by hand": (["--from", "rope", "start.run=x"], "start.run=x cannot change"),
    "the base context by hand": (["--from", "rope", "start.base_context=64"], "start.base_context=64 cannot change"),
    "the start without --from": (["--scheme", "rope", "start.run=x"], "posx train --from RUN"),
    "no whole tokens": (["--from", "rope", "train.context=4.3x"], "not a whole number of tokens"),
    "a shorter multiple": (["--from", "rope", "train.context=0.5x"], "at least 1"),
    "a context of no number": (["--from", "rope", "train.context=long"], "train.context takes a whole number"),
    "more than a batch": (["--from", "rope", "train.context=16x"], "train.batch_tokens"),
    "more than a document": (
        ["--from", "rope", "train.context=300", "train.batch_tokens=300"],
        "the longest training document",
    ),
    "an extension that does not fit": (
        ["--from", "alibi", "--extension", "pi", "train.context=4x"],
        "pi changes the spectrum and does not fit alibi",
    ),
    "rope has no table": (["--from", "rope", "--extension", "interpolate"], "does not fit rope"),
    "none and another": (["--from", "rope", "--extension", "none+pi"], "none cannot be combined"),
    "two of a kind": (["--from", "rope", "--extension", "pi+ntk"], "not both"),
    "an unknown extension": (["--from", "rope", "--extension", "pii"], "Did you mean pi"),
    "a scale below 1": (["--from", "rope", "--extension", "pi(s=0.5)"], "must be at least 1"),
    "a contradiction": (["--from", "rope", "--extension", "pi", "train.extension=ntk"], "contradict each other"),
    "no steps": (["--from", "rope", "train.steps=0"], "train.steps=0 is too small"),
    "an unknown setting": (["--from", "rope", "train.stepz=3"], "Did you mean train.steps"),
    "an evaluation's setting": (["--from", "rope", "eval.stride=3"], "eval.stride=3"),
    "a word": (["--from", "rope", "longer"], "is not an override"),
    "a name that is taken": (["--from", "rope", "--name", "rope-pi"], "--resume"),
    "resumed with another": (
        ["--from", "rope", "--name", "rope-pi", "--resume", "--extension", "ntk", *TO_4X],
        "train.extension was pi(s=4), now ntk(s=4)",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_a_sentence(runs: Path, what: str) -> None:
    arguments, sentence_of_it = REFUSED[what]
    assert sentence_of_it in refused(runs, *arguments)


def test_an_unfinished_run_is_no_start(own: Path) -> None:
    config = open_run(own / "rope").config
    create(own, "half", config, resume=False)
    said = refused(own, "--from", "half")
    assert f"half is not finished: step 0 of {STEPS}" in said
    assert "--resume --name half" in said


def test_learned_positions_without_an_extension_end_with_a_way_out(own: Path) -> None:
    result = CliRunner().invoke(app, ["train", "--from", "learned", *TO_4X, "--name", "ft", "--runs-dir", str(own)])
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.stderr
    assert "learned positions end at 16" in result.stderr
    assert "--extension interpolate" in result.stderr


def test_the_way_out_of_learned_positions_can_be_followed(own: Path) -> None:
    """The same command with what was advised: nothing may lie in its way."""
    command = ["train", "--from", "learned", *TO_4X, "--name", "ft", "--runs-dir", str(own)]
    CliRunner().invoke(app, command)
    posx(*command, "--extension", "interpolate")


def replace_weights(run: Run) -> None:
    """As training it anew would: other weights, with a manifest of their own."""
    (folder,) = run.checkpoints.glob("step-*")
    changed = {name: 1.5 * tensor for name, tensor in weights(run).items()}
    save_file(changed, folder / "model.safetensors")
    about = json.loads((folder / "manifest.json").read_text())
    about["model.safetensors"]["sha256"] = sha256_file(folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps(about))


def test_weights_that_were_replaced_before_the_first_checkpoint_are_refused(own: Path) -> None:
    first = open_run(own / "rope")
    config = with_weights(compose_finetune(first.config, "rope", TO_4X), first)
    run = create(own, "ft", config, resume=False)
    replace_weights(first)
    assert "start.weights_sha256" in refused(own, "--from", "rope", "--name", "ft", "--resume", *TO_4X)
    with pytest.raises(PosxError, match="no longer has the weights") as caught:
        train(run, corpus_of(config), Display(quiet=True))
    assert caught.value.code == 2
    assert not run.finished


def test_a_flipped_byte_in_the_first_runs_weights_is_caught(own: Path) -> None:
    (folder,) = open_run(own / "rope").checkpoints.glob("step-*")
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    result = posx("train", "--from", "rope", "train.steps=1", "--name", "ft", "--runs-dir", own, code=2)
    assert "missing or damaged" in result.stderr


def test_changed_text_is_refused(tmp_path: Path) -> None:
    """The held-out documents of another text may be what the first run was trained on."""
    path = write_jsonl(tmp_path / "a.jsonl", [sentence(40, n) for n in range(24)])
    at = ["--runs-dir", tmp_path / "runs"]
    posx("train", "data=text", f"data.path={path}", *TINY, "train.steps=2", "--name", "first", *at)
    write_jsonl(path, [sentence(40, n) for n in range(1, 25)])
    result = posx("train", "--from", "first", "train.steps=1", "--name", "ft", *at, code=2)
    assert "its text or its tokenizer has changed" in " ".join(result.stderr.split())
    assert not open_run(tmp_path / "runs" / "ft").finished if (tmp_path / "runs" / "ft").exists() else True


def test_a_first_run_that_is_gone_is_a_sentence(own: Path) -> None:
    first = open_run(own / "rope")
    config = with_weights(compose_finetune(first.config, "rope", TO_4X), first)
    run = create(own, "ft", config, resume=False)
    shutil.rmtree(first.path)
    with pytest.raises(PosxError, match="is missing") as caught:
        train(run, corpus_of(config), Display(quiet=True))
    assert caught.value.code == 2
