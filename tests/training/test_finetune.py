"""Tests of ``posx.training.finetune``."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fixtures.corpora import corpus_of, tiny_config
from fixtures.finetuned_runs import (
    EXACT,
    LONG,
    MORE,
    SEEN,
    STEPS,
    TO_4X,
    L,
    as_neox,
    by_ntk,
    finetune,
    own,  # noqa: F401
    posx,
    runs,  # noqa: F401
    same,
    text,  # noqa: F401
    tuned,
    weights,
)
from posx.config.schema import RunConfig
from posx.data.sampling import Slices
from posx.runs.directory import check_name, create, metrics, open_run
from posx.training.finetune import compose_finetune, default_name
from posx.training.loop import train
from posx.training.resume import resume
from posx.training.state import start
from posx.utils.console import Display
from posx.verify.oracles import host_models as hosts


def test_a_session_holds_the_weights_of_the_first_run(runs: Path, tmp_path: Path) -> None:
    first = open_run(runs / "rope")
    config = tuned(first, "train.context=4x", "train.extension=pi")
    run, corpus = create(tmp_path, "run", config, resume=False), corpus_of(config)
    session = start(config, corpus)
    fresh = {name: p.detach().clone() for name, p in session.model.named_parameters()}
    assert not same(fresh, weights(first))
    assert resume(run, session, corpus, Display(quiet=True)) == (0, 0.0)
    assert same({name: p.detach() for name, p in session.model.named_parameters()}, weights(first))
    assert len(session.optimizer.state) == 0  # moments of another text length and rate are none of its own


def test_steps_that_change_nothing_leave_the_weights_of_the_first_run(own: Path) -> None:
    run = finetune(own, "learned", "still", *TO_4X, "--extension", "interpolate", "optim.lr=1e-30")
    assert same(weights(run), weights(open_run(own / "learned")))


def test_training_changes_every_weight(runs: Path) -> None:
    before, after = weights(open_run(runs / "rope")), weights(open_run(runs / "rope-pi"))
    assert [name for name in before if torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize("name, factor", [("rope-pi", 4.0), ("rope-ntk", 1.0)])
def test_a_step_is_taken_with_the_extension_on_the_batch_that_comes_next(runs: Path, name: str, factor: float) -> None:
    """The first loss, by GPT-NeoX: the first run's weights, the tokens of step 30, the extension."""
    first, run = open_run(runs / "rope"), open_run(runs / name)
    rope = {"rope_type": "linear", "factor": 4.0} if name == "rope-pi" else {"rope_theta": by_ntk(4)}

    @torch.no_grad()
    def loss(step: int, context: int = LONG, **rope: Any) -> float:
        tokens, targets = Slices(corpus_of(run.config).splits["train"], context).batch(0, step, 128 // context)
        logits, _ = hosts.run(as_neox(first, **rope), torch.from_numpy(tokens))
        return float(F.cross_entropy(logits.double().flatten(0, 1), torch.from_numpy(targets).flatten()))

    seen = metrics(run)[0]
    assert (seen["step"], seen["tokens"]) == (1, 128)
    assert seen["nats_per_token"] == pytest.approx(loss(STEPS, **rope), abs=EXACT)
    others = [loss(STEPS), loss(0, **rope), loss(STEPS - 1, **rope), loss(STEPS + 1, **rope), loss(STEPS, L, **rope)]
    assert min(abs(other - seen["nats_per_token"]) for other in others) > SEEN


def test_batches_go_on_in_every_step(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after two fine-tunes in a row: 30 + 10 steps lie before."""
    asked: list[tuple[int, int, int]] = []
    batch = Slices.batch

    def noted(slices: Slices, seed: int, step: int, size: int, *more: Any) -> Any:
        asked.append((seed, step, slices.context))
        return batch(slices, seed, step, size, *more)

    monkeypatch.setattr(Slices, "batch", noted)
    config = tuned(open_run(runs / "rope-pi"), "train.steps=3", "train.eval_tokens=64")
    train(create(tmp_path, "run", config, resume=False), corpus_of(config), Display(quiet=True))
    assert [n for n in asked if n[1] > 0] == [(0, STEPS + MORE + n, LONG) for n in range(3)]


def test_validation_too_is_with_the_extension(runs: Path, tmp_path: Path) -> None:
    """Over so few steps that only the extension can tell the two apart."""
    found = {}
    for extension in ("none", "pi"):
        config = tuned(open_run(runs / "rope"), "train.context=4x", f"train.extension={extension}", "optim.lr=1e-30")
        run = create(tmp_path, extension, config, resume=False)
        train(run, corpus_of(config), Display(quiet=True))
        found[extension] = run.meta["validation_nats_per_token"]
    assert abs(found["pi"] - found["none"]) > SEEN


def test_the_schedule_follows_the_first_run(runs: Path) -> None:
    first = open_run(runs / "rope")
    config = compose_finetune(first.config, "rope", [])
    assert config.train.steps == STEPS // 10
    assert config.optim.lr == pytest.approx(metrics(first)[-1]["lr"])
    assert (config.train.context, config.train.extension, config.base_context) == (L, "none", L)
    assert config.optim.warmup_steps is None
    assert config.train.eval_every is None
    assert (config.model, config.scheme, config.data, config.tokenizer) == (
        first.config.model,
        first.config.scheme,
        first.config.data,
        first.config.tokenizer,
    )
    assert compose_finetune(replace_steps(first.config, 7), "rope", []).train.steps == 1
    asked = compose_finetune(first.config, "rope", ["optim.lr=3e-4", "optim.warmup_steps=2", "train.seed=5"])
    assert (asked.optim.lr, asked.optim.warmup_steps, asked.train.seed) == (3e-4, 2, 5)


def replace_steps(config: RunConfig, steps: int) -> RunConfig:
    return replace(config, train=replace(config.train, steps=steps))


def test_the_rate_in_the_metrics_is_that_of_the_schedule(runs: Path) -> None:
    rates = [row["lr"] for row in metrics(open_run(runs / "rope-pi"))]
    peak = metrics(open_run(runs / "rope"))[-1]["lr"]
    assert len(rates) == MORE
    assert max(rates) == pytest.approx(peak)
    assert rates[-1] == pytest.approx(peak / 10)


def test_a_name_and_a_label_say_what_was_done(own: Path) -> None:
    posx("train", "--from", "rope", "--extension", "pi", "train.context=4x", "train.steps=2", "--runs-dir", own)
    (found,) = (p for p in own.iterdir() if p.name.startswith("rope-pi-"))
    assert "64" in found.name
    assert open_run(found).label == "rope + 2 steps at 64"
    posx("train", "--from", "rope", "label=mine", "train.steps=1", "--name", "mine", "--runs-dir", own)
    assert open_run(own / "mine").label == "mine"


def test_the_same_scheme_by_name_is_no_change(own: Path) -> None:
    assert finetune(own, "rope", "named", "--scheme", "rope", "train.steps=1").finished


def test_a_run_from_scratch_may_train_with_an_extension_too(text: Path) -> None:
    """At its own context the scale is 1, and is kept as such."""
    config = tiny_config(text, "scheme=rope", "train.extension=pi")
    assert (config.train.extension, config.base_context) == ("pi(s=1)", L)


def test_nats_are_finite(runs: Path) -> None:
    """Else every comparison above would be one of NaNs."""
    for name in ("rope", "rope-pi", "rope-ntk", "learned-interpolate"):
        assert all(math.isfinite(row["nats_per_token"]) for row in metrics(open_run(runs / name)))


def test_the_name_of_a_fine_tune_with_many_numbers_can_be_one(own: Path) -> None:
    """A factor for each frequency: shortened, but for what tells two of them apart."""
    names = []
    for last in (4, 5):
        factors = ":".join(f"{1.23456 + k / 10:.5f}" for k in range(7)) + f":{last}"
        first = open_run(own / "rope")
        config = tuned(first, f"train.extension='longrope(factors={factors})'", "train.context=4x", "train.steps=3")
        names.append(default_name(config))
    assert len(set(names)) == 2
    for name in names:
        check_name(name + "-12")
        assert name.endswith("-64-3steps")
