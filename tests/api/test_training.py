"""Tests of ``posx.api.training``."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

import posx
from fixtures.api_runs import (
    overrides,  # noqa: F401 - a fixture
    run,  # noqa: F401 - a fixture
    text,  # noqa: F401 - a fixture
)
from fixtures.corpora import tiny_config, trained

torch.set_num_threads(1)


def test_a_mapping_composes_like_a_list(text: Path) -> None:
    values = {"train.steps": 7, "train.compile": "off", "model.tie_embeddings": False, "model.n_kv_heads": None}
    texts = ["data=text", f"data.path={text}", "scheme.base=500", "train.steps=7", "train.compile=off"]
    texts += ["model.tie_embeddings=false", "model.n_kv_heads=null", "label=a (b), c"]
    mapping = {"data": "text", "data.path": text, **values, "label": "a (b), c"}
    config = posx.compose(mapping, scheme="rope", settings={"base": 500})
    assert config == posx.compose(texts)
    assert (config.train.steps, config.scheme["base"], config.label) == (7, 500, "a (b), c")


@pytest.mark.parametrize(
    "overrides, options, message",
    [
        ("train.steps=3", {}, "is a string"),
        ({"train.stepz": 3}, {}, "There is no setting"),
        (["train.steps"], {}, "is not an override"),
        (["scheme=alibi"], {"scheme": "rope"}, "contradict"),
        ([], {"scheme": "rop"}, "Did you mean rope"),
    ],
)
def test_invalid_overrides_raise_posx_error(overrides: object, options: dict[str, str], message: str) -> None:
    with pytest.raises(posx.PosxError, match=message):
        posx.compose(overrides, **options)  # type: ignore[arg-type]


def test_a_run_equals_one_of_the_training_loop_and_prints_nothing(
    run: posx.Run, overrides: list[str], text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    events: list[posx.Progress] = []
    config = posx.compose(overrides, scheme="rope")
    second = posx.train(config, tmp_path / "second", progress=events.append)
    posx.evaluate(second, ["1x"], max_targets=32, progress=events.append)
    assert capfd.readouterr() == ("", "")
    direct = trained(tmp_path, "direct", tiny_config(text, "scheme=rope", "train.steps=3", "train.log_every=1"))
    weights = [(each.checkpoints / "step-000003" / "model.safetensors").read_bytes() for each in (run, second, direct)]
    assert weights[0] == weights[1] == weights[2]
    steps = [(e.done, e.total) for e in events if e.title == "second" and not e.message]
    assert steps[0] == (0, 3)
    assert steps[-1] == (3, 3)
    assert any("loss" in e.note or any(sign.isdigit() for sign in e.note) for e in events)
    assert any(e.message for e in events)
    assert any(e.title == "second  none  16" and e.done == e.total > 0 for e in events)


def test_an_existing_run_is_an_error_or_is_resumed(run: posx.Run, overrides: list[str]) -> None:
    config = posx.compose(overrides, scheme="rope")
    with pytest.raises(posx.PosxError, match="already exists"):
        posx.train(config, run.path)
    events: list[posx.Progress] = []
    assert posx.train(config, run.path, resume=True, progress=events.append).finished
    assert "is finished: step 3 of 3" in events[-1].message


def test_a_config_changed_in_python_is_checked(overrides: list[str], tmp_path: Path) -> None:
    config = posx.compose(overrides)
    config.train.batch_tokens = 8  # less than a window
    with pytest.raises(posx.PosxError, match="smaller than one window"):
        posx.train(config, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_without_a_path_runs_are_named_after_their_settings(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = posx.compose([*overrides, "train.steps=1"], scheme="nope")
    paths = [posx.train(config).path for _ in range(2)]
    assert paths == [Path("runs/nope-tiny-16-seed0"), Path("runs/nope-tiny-16-seed0-2")]


def test_a_finetune_starts_from_the_run(run: posx.Run, tmp_path: Path) -> None:
    changes = {"train.context": "2x", "train.extension": "pi", "train.steps": 1}
    beside = posx.finetune(run, changes)
    assert beside.path == run.path.parent / "rope-pi-s-2-32-1steps"
    assert (beside.config.start.run, beside.config.train.context, beside.config.train.extension) == (
        "rope",
        32,
        "pi(s=2)",
    )
    elsewhere = posx.finetune(run, posx.compose_finetune(run, changes, runs_dir=tmp_path), tmp_path / "tuned")
    assert elsewhere.config.start.run == str(run.path.resolve())
    assert elsewhere.finished
    with pytest.raises(posx.PosxError, match="does not start from the weights of a run"):
        posx.finetune(run, run.config)


def test_an_error_in_the_callback_propagates_and_the_run_can_be_resumed(overrides: list[str], tmp_path: Path) -> None:
    config = posx.compose([*overrides, "train.checkpoint_every=1"])

    def fail(event: posx.Progress) -> None:
        if event.done == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        posx.train(config, tmp_path / "run", progress=fail)
    partial = posx.load_run(tmp_path / "run")
    assert (partial.step, partial.finished) == (1, False)
    with pytest.raises(posx.PosxError, match="is not finished: step 1 of 3"):
        posx.finetune(partial, {"train.steps": 1})
    assert posx.train(config, partial.path, resume=True).finished
    whole = posx.train(config, tmp_path / "whole")
    weights = Path("checkpoints") / "step-000003" / "model.safetensors"
    assert (partial.path / weights).read_bytes() == (whole.path / weights).read_bytes()


def test_an_interrupt_writes_a_checkpoint(overrides: list[str], tmp_path: Path) -> None:
    config = posx.compose(overrides)

    def interrupt(event: posx.Progress) -> None:
        if event.done == 1 and not event.message:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(posx.PosxError) as caught:
        posx.train(config, tmp_path / "run", progress=interrupt)
    assert caught.value.code == 130
    partial = posx.load_run(tmp_path / "run")
    assert 1 <= partial.step < 3
    assert posx.train(config, partial.path, resume=True).finished
