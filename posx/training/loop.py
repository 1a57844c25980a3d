"""Training: one scheme, one seed, read from top to bottom.

The batch of a step is a pure function of (seed, step) and every initial value of (seed, parameter name), so two
schemes see the same text in the same order from the same start, and a resumed run repeats an unbroken one.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import IGNORED, OptimConfig, TrainConfig
from posx.data.corpus import Corpus, Split
from posx.data.sampling import Slices
from posx.errors import PosxError
from posx.models import checkpoint as checkpoints
from posx.models.loss import head_cross_entropy, nll
from posx.results.records import perplexity
from posx.runs.directory import Run, locked, write_meta
from posx.runtime import device as devices
from posx.runtime.generator import generator
from posx.runtime.memory import peak_memory
from posx.runtime.threads import at_once
from posx.training.recipes import skipping
from posx.training.resume import first_meta, resume
from posx.training.state import Session, set_compiled, start
from posx.utils.console import Display
from posx.utils.files import write_text
from posx.utils.format import clock


class Interrupted(PosxError):
    """A signal came; the checkpoint is written. The exit code is the signal's."""


def learning_rate(step: int, train: TrainConfig, optim: OptimConfig) -> float:
    """Of step 0 .. steps − 1: linear to the peak, then half a cosine down to ``final_lr`` of it."""
    warmup = min(100, train.steps // 10) if optim.warmup_steps is None else optim.warmup_steps
    if step < warmup:
        return optim.lr * (step + 1) / warmup
    share = (step - warmup) / max(1, train.steps - 1 - warmup)
    return optim.lr * (optim.final_lr + (1 - optim.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def train_step(session: Session, step: int) -> tuple[Tensor, Tensor]:
    """One optimizer step: mean nats a scored target, and the gradient's norm before clipping (both on device).

    Nats are added up over the accumulated parts and divided once by the targets of the whole step.
    """
    train, optim, model = session.config.train, session.config.optim, session.model
    # A fine-tune goes on in the stream of batches where the first run ended.
    number = session.config.start.step + step
    drawn = generator(train.seed, f"positions of step {number}")
    positions: Tensor | None
    if train.recipe == "pose":
        first, positions = skipping(session.sequences, train.context, train.reached, drawn)
        tokens, targets = session.slices.batch(train.seed, number, session.sequences, first.numpy())
    else:
        positions = model.scheme.train_positions(session.sequences, train.context, drawn)
        tokens, targets = session.slices.batch(train.seed, number, session.sequences)
    scored = int((targets != IGNORED).sum())
    if scored == 0:
        raise PosxError(f"No target is left to learn from in step {step}.", "Give longer documents.")
    for group in session.optimizer.param_groups:
        group["lr"] = learning_rate(step, train, optim)
    total = torch.zeros((), device=session.device)
    for part in range(train.accumulation):
        rows = slice(part * len(tokens) // train.accumulation, (part + 1) * len(tokens) // train.accumulation)
        where = None if positions is None else positions[rows]
        total += _learn(session, tokens[rows], targets[rows], where, scored)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), optim.grad_clip or math.inf)
    session.optimizer.step()
    session.optimizer.zero_grad(set_to_none=True)
    return total, norm


def _learn(session: Session, tokens: np.ndarray, targets: np.ndarray, positions: Tensor | None, scored: int) -> Tensor:
    """Nats of these windows / ``scored``; adds its gradients to those of the parameters.

    On a CPU each thread takes some of the windows, and their gradients are added up in order.
    """
    parameters = [p for p in session.model.parameters() if p.requires_grad]
    count = session.pieces(len(tokens))
    if count == 1:
        loss = _nats(session, tokens, targets, positions) / scored
        loss.backward()
        return loss.detach()

    def piece(rows: slice) -> tuple[Tensor, tuple[Tensor, ...]]:
        where = None if positions is None else positions[rows]
        loss = _nats(session, tokens[rows], targets[rows], where) / scored
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    cuts = [len(tokens) * n // count for n in range(count + 1)]
    found = at_once([partial(piece, slice(*ends)) for ends in pairwise(cuts)])
    for parameter, *gradients in zip(parameters, *(gradients for _, gradients in found), strict=True):
        for gradient in gradients:
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    return torch.stack([loss for loss, _ in found]).sum()


def _nats(session: Session, tokens: np.ndarray, targets: np.ndarray, positions: Tensor | None) -> Tensor:
    """Sum of nats of a batch, with gradients."""
    ids, wanted = (devices.to_device(array, session.device) for array in (tokens, targets))
    with torch.autocast(session.device.type, torch.bfloat16, enabled=session.dtype == torch.bfloat16):
        where = None if positions is None else positions.to(session.device, non_blocking=True)
        hidden = session.model.readable(session.model(ids, where, extension=session.extension))
    return head_cross_entropy(hidden.flatten(0, 1), session.model.head_weight, wanted.flatten(), session.dtype)


@torch.no_grad()
def validate(session: Session, split: Split) -> float:
    """Nats a token over the same random slices of ``split`` every time, for every scheme and seed."""
    train = session.config.train
    slices = Slices(split, train.context)
    left = max(1, train.eval_tokens // train.context)
    nats, count, number = 0.0, 0, 0
    while left:
        tokens, targets = slices.batch(0, number, min(left, session.sequences))
        number, left = number + 1, left - len(tokens)
        with torch.autocast(session.device.type, torch.bfloat16, enabled=session.dtype == torch.bfloat16):
            hidden = session.model(devices.to_device(tokens, session.device), extension=session.extension)
            losses = nll(
                session.model.logits(hidden).flatten(0, 1), devices.to_device(targets, session.device).flatten()
            )
        nats += float(losses.double().sum())
        count += int((targets != IGNORED).sum())
    return nats / max(1, count)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM are noted, so that a step can end and be saved; a second one stops at once."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        before = {n: signal.signal(n, note) for n in numbers}
    except ValueError:  # not in the main thread: whoever runs the thread handles signals
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(run: Run, corpus: Corpus, display: Display, catalog: Catalog = PACKAGED) -> None:
    """Train ``run`` to its last step, from its newest checkpoint if it has one. Raises PosxError.

    Writes metrics.jsonl, meta.json and checkpoints. On SIGINT or SIGTERM the step is ended and saved, and
    Interrupted is raised.
    """
    if run.finished:
        return
    with locked(run), _signals() as caught:
        _train(run, start(run.config, corpus, catalog), corpus, display, caught, catalog)


def _train(run: Run, session: Session, corpus: Corpus, display: Display, caught: list[int], catalog: Catalog) -> None:
    config, settings, model = run.config, run.config.train, session.model
    done, spent = resume(run, session, corpus, display, catalog)
    meta = first_meta(run, session, corpus)
    write_meta(run, meta)
    write_text(run.path / "tokenizer.json", (corpus.path / "tokenizer.json").read_text("utf-8"))
    display.say(
        f"{run.name}: {meta['parameters']['total']:,} parameters, {settings.steps} steps of "
        f"{session.sequences * settings.context:,} tokens at a context of {settings.context}, "
        f"{meta['dtype']}, {'compiled' if session.compiled else 'uncompiled'}, seed {settings.seed}"
    )
    for line in [*corpus.notes, *([session.note] if settings.compile == "on" and session.note else [])]:
        display.say(f"Note: {line}")

    eval_every = settings.eval_every or max(1, settings.steps // 5)
    display.start(run.name, settings.steps, done)
    began, tokens_a_step = time.monotonic(), session.sequences * settings.context
    mark, mark_step, validation = began, done, None
    with (run.path / "metrics.jsonl").open("a", encoding="utf-8") as log:
        for step in range(done, settings.steps):
            loss, norm = _step_or_uncompiled(session, step, display)
            done = step + 1
            last = done == settings.steps
            due = settings.checkpoint_every and done % settings.checkpoint_every == 0
            # A checkpoint is written only after a look at the loss: diverged weights must not replace good ones.
            if done % settings.log_every == 0 or last or done % eval_every == 0 or due or caught:
                nats = float(loss)  # waits for the device, so only now and then
                now = time.monotonic()
                rate = (done - mark_step) * tokens_a_step / max(1e-9, now - mark)
                row = {
                    "step": done,
                    "tokens": done * tokens_a_step,
                    "nats_per_token": _finite(nats),
                    "lr": learning_rate(step, settings, config.optim),
                    "grad_norm": _finite(float(norm)),
                    "tokens_per_second": round(rate, 1),
                }
                if done % eval_every == 0 or last:
                    validation = validate(session, corpus.splits["validation"])
                    row["validation_nats_per_token"] = _finite(validation)
                if not all(map(math.isfinite, (nats, float(norm), validation or 0.0))):
                    _log(log, row)
                    raise PosxError(
                        f"Training diverged at step {done}: the loss is {nats:g}, the gradient's norm {float(norm):g}.",
                        f"Lower optim.lr (now {config.optim.lr:g}) or lengthen optim.warmup_steps.",
                        code=1,
                    )
                _log(log, row)
                mark, mark_step = time.monotonic(), done
                shown = f"loss {nats:.3f}" + (f", validation {validation:.3f}" if validation is not None else "")
                display.update(done, f"{shown}, {rate / 1000:.1f}k tokens/s")
            else:
                display.update(done)
            if last or due or caught:
                seconds = spent + time.monotonic() - began
                state = {"step": done, "tokens": done * tokens_a_step, "seconds": round(seconds, 3)}
                checkpoints.save(run.checkpoints, model, session.optimizer, state)
            if caught and not last:
                display.finish()
                raise Interrupted(
                    f"Interrupted after step {done} of {settings.steps}; a checkpoint is written.",
                    f"Continue with the same command and --resume --name {run.name}.",
                    code=128 + caught[0],
                )
    display.finish()
    meta |= {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(spent + time.monotonic() - began, 1),
        "compiled": session.compiled,
        "validation_nats_per_token": validation,
        "peak_memory_bytes": peak_memory(session.device),
        "embedding": model.scheme.report(model.tokens.weight),
    }
    write_meta(run, meta)
    if validation is not None:
        display.say(
            f"{run.name}: done in {clock(meta['seconds'])}, validation {validation:.3f} nats/token "
            f"(perplexity {perplexity(validation):.1f})"
        )


def _step_or_uncompiled(session: Session, step: int, display: Display) -> tuple[Tensor, Tensor]:
    """A step; where the compiler fails, one line says so and the same step runs uncompiled."""
    if not session.compiled:
        return train_step(session, step)
    try:
        return train_step(session, step)
    except torch._dynamo.exc.TorchDynamoException as error:
        display.say(f"Compilation failed ({type(error).__name__}); going on uncompiled.")
        session.compiled = False
        set_compiled(session.model, False)
        session.optimizer.zero_grad(set_to_none=True)
        return train_step(session, step)


def _finite(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return round(value, 6) if math.isfinite(value) else None


def _log(file: Any, row: dict[str, Any]) -> None:
    file.write(json.dumps(row) + "\n")
    file.flush()
