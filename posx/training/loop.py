"""The training loop: one scheme, one seed.

The batch of a step is a pure function of (seed, step), and each initial value of (seed, parameter name). So two schemes
see the same batches from the same initial values, and a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import IGNORED, OptimConfig, TrainConfig
from posx.data.corpus import Corpus, Split
from posx.data.sampling import Slices
from posx.errors import PosxError
from posx.loggers.base import Logger
from posx.loggers.jsonl import JsonLines
from posx.models import checkpoint as checkpoints
from posx.models.loss import nll
from posx.results.records import perplexity
from posx.runs.directory import Run, locked, write_meta
from posx.runtime import device as devices
from posx.runtime.generator import generator
from posx.runtime.memory import peak_memory
from posx.training.parallel.base import Batch, Parallel
from posx.training.parallel.single import SINGLE
from posx.training.recipes import find_recipe
from posx.training.resume import first_meta, resume
from posx.training.state import Session, set_compiled, start
from posx.utils.console import Display
from posx.utils.files import write_text
from posx.utils.format import clock


class Interrupted(PosxError):
    """A signal ended training, after a checkpoint. The exit code is that of the signal."""


def learning_rate(step: int, train: TrainConfig, optim: OptimConfig) -> float:
    """The learning rate at a step 0 .. steps − 1: linear warm-up, then a half cosine down to ``final_lr`` of that."""
    warmup = min(100, train.steps // 10) if optim.warmup_steps is None else optim.warmup_steps
    if step < warmup:
        return optim.lr * (step + 1) / warmup
    share = (step - warmup) / max(1, train.steps - 1 - warmup)
    return optim.lr * (optim.final_lr + (1 - optim.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def train_step(session: Session, step: int, parallel: Parallel = SINGLE) -> tuple[Tensor, Tensor]:
    """One optimizer step: the mean nats per scored target, and the gradient norm before clipping, both on the device.

    Nats are summed over the accumulated parts, and divided once by the number of targets of the step.
    """
    train, optim, model = session.config.train, session.config.optim, session.model
    # A fine-tune continues the stream of batches after the last step of the first run.
    number = session.config.start.step + step
    drawn = find_recipe(train.recipe).draw(
        model.scheme, train, session.sequences, generator(train.seed, f"positions of step {number}")
    )
    tokens, targets = session.slices.batch(train.seed, number, session.sequences, drawn.unbroken)
    batch = Batch(tokens, targets, drawn.positions)
    scored = int((targets != IGNORED).sum())
    if scored == 0:
        raise PosxError(f"Step {step} has no targets.", "Give longer documents.")
    for group in session.optimizer.param_groups:
        group["lr"] = learning_rate(step, train, optim)
    total = torch.zeros((), device=session.device)
    for rows in batch.cut(train.accumulation):
        total += parallel.gradients(session, batch[rows], scored)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), optim.grad_clip or math.inf)
    session.optimizer.step()
    session.optimizer.zero_grad(set_to_none=True)
    return total, norm


@torch.no_grad()
def validate(session: Session, split: Split) -> float:
    """Nats/token over random slices of ``split`` that are the same for every call, scheme and seed."""
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
    """Store SIGINT and SIGTERM, so that the step can end and be saved. A second signal stops at once."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        before = {n: signal.signal(n, note) for n in numbers}
    except ValueError:  # only the main thread can handle signals
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(run: Run, corpus: Corpus, display: Display, catalog: Catalog = PACKAGED) -> None:
    """Train ``run`` to its last step, from its newest checkpoint if there is one. Raises PosxError.

    Writes metrics.jsonl, meta.json and checkpoints. On SIGINT or SIGTERM the current step is finished and saved, and
    Interrupted is raised.
    """
    if run.finished:
        return
    with locked(run), _signals() as caught:
        _train(run, start(run.config, corpus, catalog), corpus, display, caught)


@dataclass
class Progress:
    """The progress of a run, and the time of its last row of metrics."""

    done: int  # steps
    spent: float  # seconds, of earlier processes
    began: float = field(default_factory=time.monotonic)
    mark: float = 0.0  # time of the last row
    mark_step: int = 0
    validation: float | None = None  # the newest, in nats/token

    def __post_init__(self) -> None:
        self.mark, self.mark_step = self.began, self.done

    @property
    def seconds(self) -> float:
        """Seconds of training in all processes."""
        return self.spent + time.monotonic() - self.began


def _train(run: Run, session: Session, corpus: Corpus, display: Display, caught: list[int]) -> None:
    settings = run.config.train
    done, spent = resume(run, session, corpus, display)
    with closing(JsonLines(run, done)) as logger:
        meta = first_meta(run, session, corpus)
        write_meta(run, meta)
        write_text(run.path / "tokenizer.json", (corpus.path / "tokenizer.json").read_text("utf-8"))
        _introduce(run, session, corpus, meta, display)
        eval_every = settings.eval_every or max(1, settings.steps // 5)
        display.start(run.name, settings.steps, done)
        progress = Progress(done, spent)
        for step in range(done, settings.steps):
            losses = _step_or_uncompiled(session, step, display)
            if not meta["backend"]:
                meta["backend"] = "+".join(sorted(session.backends))
                write_meta(run, meta)
            progress.done = done = step + 1
            last = done == settings.steps
            due = settings.checkpoint_every and done % settings.checkpoint_every == 0
            # The loss is checked before a checkpoint is written: diverged weights must not replace good ones.
            if done % settings.log_every == 0 or last or done % eval_every == 0 or due or caught:
                split = corpus.splits["validation"] if done % eval_every == 0 or last else None
                display.update(done, _log_metrics(session, progress, losses, split, logger))
            else:
                display.update(done)
            if last or due or caught:
                state = {"step": done, "tokens": done * session.tokens_a_step, "seconds": round(progress.seconds, 3)}
                checkpoints.save(run.checkpoints, session.model, session.optimizer, state)
            if caught and not last:
                display.finish()
                raise Interrupted(
                    f"Interrupted after step {done} of {settings.steps}. A checkpoint was written.",
                    f"To continue, add --resume --name {run.name} to the command.",
                    code=128 + caught[0],
                )
    display.finish()
    _finish(run, session, progress, meta, display)


def _introduce(run: Run, session: Session, corpus: Corpus, meta: dict[str, Any], display: Display) -> None:
    """Print a line about the run, and notes."""
    settings = run.config.train
    display.say(
        f"{run.name}: {meta['parameters']['total']:,} parameters, {settings.steps} steps of "
        f"{session.tokens_a_step:,} tokens at a context of {settings.context}, "
        f"{meta['dtype']}, {'compiled' if session.compiled else 'uncompiled'}, seed {settings.seed}"
    )
    for line in [*corpus.notes, *([session.note] if settings.compile == "on" and session.note else [])]:
        display.say(f"Note: {line}")


def _log_metrics(
    session: Session, progress: Progress, losses: tuple[Tensor, Tensor], split: Split | None, logger: Logger
) -> str:
    """Log the row of the step just done, with a validation on ``split``. Returns it in words.

    ``losses``: what :func:`train_step` returned. Raises PosxError where training diverged, after the row is logged.
    """
    settings, optim, done = session.config.train, session.config.optim, progress.done
    nats, norm = map(float, losses)  # waits for the device, so only in some steps
    now = time.monotonic()
    rate = (done - progress.mark_step) * session.tokens_a_step / max(1e-9, now - progress.mark)
    row = {
        "tokens": done * session.tokens_a_step,
        "nats_per_token": _finite(nats),
        "lr": learning_rate(done - 1, settings, optim),
        "grad_norm": _finite(norm),
        "tokens_per_second": round(rate, 1),
    }
    if split is not None:
        progress.validation = validate(session, split)
        row["validation_nats_per_token"] = _finite(progress.validation)
    logger.log(row, done)
    if not all(map(math.isfinite, (nats, norm, progress.validation or 0.0))):
        raise PosxError(
            f"Training diverged at step {done}: the loss is {nats:g}, the gradient norm is {norm:g}.",
            f"Lower optim.lr (now {optim.lr:g}) or lengthen optim.warmup_steps.",
            code=1,
        )
    progress.mark, progress.mark_step = time.monotonic(), done
    validation = "" if progress.validation is None else f", validation {progress.validation:.3f}"
    return f"loss {nats:.3f}{validation}, {rate / 1000:.1f}k tokens/s"


def _finish(run: Run, session: Session, progress: Progress, meta: dict[str, Any], display: Display) -> None:
    """Complete meta.json, and print the result."""
    model, validation, seconds = session.model, progress.validation, round(progress.seconds, 1)
    meta |= {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "compiled": session.compiled,
        "validation_nats_per_token": validation,
        "peak_memory_bytes": peak_memory(session.device),
        "embedding": model.scheme.report(model.tokens.weight),
    }
    write_meta(run, meta)
    if validation is not None:
        display.say(
            f"{run.name}: done in {clock(seconds)}, validation {validation:.3f} nats/token "
            f"(perplexity {perplexity(validation):.1f})"
        )


def _step_or_uncompiled(session: Session, step: int, display: Display) -> tuple[Tensor, Tensor]:
    """One step. If the compiler fails, print a line and run the same step uncompiled."""
    if not session.compiled:
        return train_step(session, step)
    try:
        return train_step(session, step)
    except torch._dynamo.exc.TorchDynamoException as error:
        display.say(f"Compilation failed ({type(error).__name__}); continuing uncompiled.")
        session.compiled = False
        set_compiled(session.model, False)
        session.optimizer.zero_grad(set_to_none=True)
        return train_step(session, step)


def _finite(value: float) -> float | None:
    """The value, or None if it is not finite: JSON has no NaN."""
    return round(value, 6) if math.isfinite(value) else None
