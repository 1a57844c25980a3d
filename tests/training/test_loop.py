"""Tests of ``posx.training.loop``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from fixtures.corpora import corpus_of, tiny_config, trained, write_jsonl
from fixtures.trainings import (
    session_of,
    text,  # noqa: F401
    unbroken,  # noqa: F401
)
from posx.config.schema import IGNORED, OptimConfig, TrainConfig
from posx.errors import PosxError
from posx.models.loss import CHUNK
from posx.runs.directory import Run, create, metrics
from posx.training.loop import learning_rate, train, train_step, validate
from posx.training.state import Session
from posx.utils.console import Display


def captured(session: Session, step: int) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Loss, gradient norm, and the gradient of every parameter in a step."""
    taken: dict[str, torch.Tensor] = {}

    def keep(*_: Any) -> None:
        for name, parameter in session.model.named_parameters():
            assert parameter.grad is not None
            taken[name] = parameter.grad.clone()

    handle = session.optimizer.register_step_pre_hook(keep)
    loss, norm = train_step(session, step)
    handle.remove()
    return float(loss), float(norm), taken


def close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, gradient in left.items():
        assert float((gradient - right[name]).abs().max()) <= 2e-5 * float(right[name].abs().max()), name


def length_of(gradients: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))


def test_the_gradient_is_that_of_the_mean_over_all_scored_targets(text: Path) -> None:
    """Against torch's own cross-entropy, over a batch of several chunks in which some windows are masked."""
    session = session_of(text, "scheme=learned", "optim.grad_clip=0", f"train.batch_tokens={80 * 16}")
    tokens, targets = map(torch.from_numpy, session.slices.batch(0, 4, 80))
    assert targets.numel() > 2 * CHUNK["cpu"]
    assert 0 < int((targets == IGNORED).sum()) < targets.numel() // 2
    logits = session.model.logits(session.model(tokens)).flatten(0, 1)
    expected = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED)
    expected.backward()
    by_torch = {n: p.grad.clone() for n, p in session.model.named_parameters() if p.grad is not None}
    session.optimizer.zero_grad()
    loss, norm, gradients = captured(session, 4)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-6)
    close(gradients, by_torch)
    assert norm == pytest.approx(length_of(by_torch), rel=1e-5)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_gives_the_same_step(text: Path, parts: int) -> None:
    """Parts hold unlike numbers of targets: a mean of their means would be another step."""
    whole, split = (session_of(text, "optim.grad_clip=0", f"train.accumulation={n}") for n in (1, parts))
    counts = (split.slices.batch(0, 4, 8)[1] != IGNORED).reshape(parts, -1).sum(axis=1)
    assert len(set(counts.tolist())) > 1
    loss, norm, gradients = captured(whole, 4)
    other_loss, other_norm, other = captured(split, 4)
    assert other_loss == pytest.approx(loss, rel=1e-6)
    assert other_norm == pytest.approx(norm, rel=1e-5)
    close(other, gradients)


def test_the_gradient_is_clipped_to_its_largest_norm(text: Path) -> None:
    session = session_of(text, "optim.grad_clip=0.05")
    _, norm, gradients = captured(session, 0)
    assert norm > 0.1, "the norm that is reported is the one before clipping"
    assert length_of(gradients) == pytest.approx(0.05, rel=1e-4)


def test_every_parameter_is_trained(text: Path) -> None:
    session = session_of(text, "scheme=t5", "scheme.buckets=8", "model.tie_embeddings=false")
    before = {name: p.detach().clone() for name, p in session.model.named_parameters()}
    for step in range(2):
        train_step(session, step)
    still = [n for n, p in session.model.named_parameters() if torch.equal(p, before[n])]
    assert still == []


@pytest.mark.parametrize(
    "steps, warmup, step, share",
    [
        (100, 10, 0, 0.1),
        (100, 10, 4, 0.5),
        (100, 10, 9, 1.0),  # the end of warm-up
        (100, 10, 10, 1.0),
        (101, 10, 55, 0.55),  # half of the cosine, to a tenth
        (100, 10, 99, 0.1),  # the last
        (100, 0, 0, 1.0),
        (100, 0, 99, 0.1),
        (400, None, 0, 1 / 40),  # a tenth of the steps
        (400, None, 39, 1.0),
        (5000, None, 0, 1 / 100),  # never more than 100
        (5000, None, 99, 1.0),
        (5000, None, 4999, 0.1),
        (5, None, 0, 1.0),
        (1, None, 0, 1.0),
        (4, 8, 3, 0.5),  # a warm-up that never ends
    ],
)
def test_learning_rate(steps: int, warmup: int | None, step: int, share: float) -> None:
    optim = OptimConfig(lr=3e-3, final_lr=0.1, warmup_steps=warmup)
    assert learning_rate(step, TrainConfig(steps=steps), optim) == pytest.approx(3e-3 * share)


def test_the_rate_of_a_step_is_the_optimizers(text: Path, unbroken: Run) -> None:
    session = session_of(text, "train.steps=40", "optim.warmup_steps=4")
    for step, share in ((0, 0.25), (3, 1.0), (39, 0.1)):
        train_step(session, step)
        assert [g["lr"] for g in session.optimizer.param_groups] == pytest.approx([0.01 * share] * 2)
    assert metrics(unbroken)[-1]["lr"] == pytest.approx(0.001)


def test_a_repetitive_text_is_learned(tmp_path: Path) -> None:
    """Documents that tell the same thing over and over: far below the ln V of guessing."""
    texts = [("north east south west " * 30)[n:] + f"{n}" for n in range(30)]
    path = write_jsonl(tmp_path / "a.jsonl", texts)
    config = tiny_config(path, "train.steps=60", "tokenizer.vocab_size=260", "train.log_every=1")
    run = trained(tmp_path, "run", config)
    first, last = metrics(run)[0], metrics(run)[-1]
    guess = math.log(run.meta["vocab_size"])
    assert guess == pytest.approx(math.log(260))
    assert last["nats_per_token"] < guess / 2 < first["nats_per_token"]
    assert last["validation_nats_per_token"] < guess / 2


def test_validation_is_the_mean_over_the_same_slices(text: Path) -> None:
    session = session_of(text, "train.eval_tokens=80")
    split = corpus_of(session.config).splits["validation"]
    nats = validate(session, split)
    for step in range(2):
        train_step(session, step)
    assert validate(session, split) != nats
    again = session_of(text, "train.eval_tokens=80", "train.batch_tokens=128")
    assert validate(again, split) == nats


def test_a_run_that_diverges_is_a_sentence_with_code_1(text: Path, tmp_path: Path) -> None:
    config = tiny_config(text, "train.steps=20", "optim.lr=1e30", "optim.warmup_steps=0", "optim.grad_clip=0")
    run = create(tmp_path, "run", config, resume=False)
    with pytest.raises(PosxError, match="diverged") as caught:
        train(run, corpus_of(config), Display(quiet=True))
    assert caught.value.code == 1
    assert "optim.lr" in caught.value.hint
    for line in (run.path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_a_diverged_run_keeps_no_weights_that_are_not_finite(text: Path, tmp_path: Path) -> None:
    """Resuming from such a checkpoint would diverge for ever."""
    overrides = ["train.steps=20", "train.checkpoint_every=3", "train.log_every=10", "train.eval_every=20"]
    overrides += ["optim.lr=1e30", "optim.warmup_steps=0", "optim.grad_clip=0"]
    config = tiny_config(text, *overrides)
    run = create(tmp_path, "run", config, resume=False)
    with pytest.raises(PosxError, match="diverged"):
        train(run, corpus_of(config), Display(quiet=True))
    for path in run.checkpoints.glob("*/model.safetensors"):
        assert all(bool(w.isfinite().all()) for w in load_file(path).values()), path
