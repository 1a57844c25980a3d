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
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posx import checkpoint as checkpoints
from posx import machine
from posx.attention import pick_backend
from posx.components import make_scheme
from posx.config import OptimConfig, RunConfig, TrainConfig
from posx.corpus import Corpus, Split
from posx.errors import PosxError
from posx.extensions.base import NONE
from posx.files import write_text
from posx.loss import IGNORED, head_cross_entropy, nll
from posx.model import Decoder, count_parameters, initialise, model_shape
from posx.progress import Display, clock
from posx.records import perplexity
from posx.runs import Run, locked, metrics, write_meta
from posx.windows import Slices, check_long_enough


class Interrupted(PosxError):
    """A signal came; the checkpoint is written. The exit code is the signal's."""


@dataclass
class Session:
    """What the steps of a run share."""

    config: RunConfig
    model: Decoder
    optimizer: torch.optim.Optimizer
    slices: Slices
    device: torch.device
    dtype: torch.dtype
    compiled: bool
    note: str  # why it is not compiled

    @property
    def sequences(self) -> int:
        """Windows of one optimizer step."""
        return self.config.train.batch_tokens // self.config.train.context


def build_model(config: RunConfig, vocab_size: int, trust: bool = False) -> Decoder:
    """The untrained model of a config."""
    scheme = make_scheme(config.scheme, model_shape(config.model, config.train.context), trust)
    return Decoder(config.model, scheme, vocab_size)


def start(config: RunConfig, corpus: Corpus, trust: bool = False) -> Session:
    """Model, optimizer and batches of a run at step 0. Raises PosxError where the corpus cannot serve it."""
    train = config.train
    check_long_enough(corpus, train.context)
    device = machine.pick_device(train.device)
    dtype = machine.pick_dtype(train.dtype, device)
    machine.set_threads(train.threads)
    model = build_model(config, corpus.vocab_size, trust)
    initialise(model, train.seed)
    model.to(device)
    work = 3 * flops_per_token(model, train.context) * train.steps * train.batch_tokens
    compiled, note = machine.pick_compile(train.compile, device, dtype, work)
    set_compiled(model, compiled)
    optimizer = make_optimizer(model, config.optim, device)
    return Session(
        config, model, optimizer, Slices(corpus.splits["train"], train.context), device, dtype, compiled, note
    )


def flops_per_token(model: Decoder, context: int) -> float:
    """Floating-point operations of a forward pass, a token: 2 a weight in a product, and attention's products."""
    matrices = sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2) + model.head_weight.numel()
    return 2 * matrices + 4 * model.config.n_layers * context * model.config.d_model


def set_compiled(model: Decoder, compiled: bool) -> None:
    """Compile each block (they share the code, so it is done once), or undo it."""
    for block in model.blocks:
        if compiled:
            block.compile(dynamic=False)
        else:
            block._compiled_call_impl = None


def make_optimizer(model: Decoder, optim: OptimConfig, device: torch.device) -> torch.optim.Optimizer:
    """AdamW. Weight decay acts on the model's matrices, never on norms or on what belongs to the scheme."""
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in model.named_parameters():
        (decayed if parameter.ndim >= 2 and not name.startswith("scheme.") else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        groups,
        lr=optim.lr,
        betas=(optim.beta1, optim.beta2),
        eps=optim.eps,
        fused=device.type in ("cpu", "cuda"),
    )


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
    tokens, targets = session.slices.batch(train.seed, step, session.sequences)
    scored = int((targets != IGNORED).sum())
    if scored == 0:
        raise PosxError(f"No target is left to learn from in step {step}.", "Give longer documents.")
    for group in session.optimizer.param_groups:
        group["lr"] = learning_rate(step, train, optim)
    total = torch.zeros((), device=session.device)
    for part in range(train.accumulation):
        rows = slice(part * len(tokens) // train.accumulation, (part + 1) * len(tokens) // train.accumulation)
        loss = _nats(session, _to(tokens[rows], session.device), _to(targets[rows], session.device)) / scored
        loss.backward()
        total += loss.detach()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), optim.grad_clip or math.inf)
    session.optimizer.step()
    session.optimizer.zero_grad(set_to_none=True)
    return total, norm


def _to(array: np.ndarray, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _nats(session: Session, tokens: Tensor, targets: Tensor) -> Tensor:
    """Sum of nats of a batch, with gradients."""
    with torch.autocast(session.device.type, torch.bfloat16, enabled=session.dtype == torch.bfloat16):
        hidden = session.model.readable(session.model(tokens))
    return head_cross_entropy(hidden.flatten(0, 1), session.model.head_weight, targets.flatten(), session.dtype)


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
            hidden = session.model(_to(tokens, session.device))
            losses = nll(session.model.logits(hidden).flatten(0, 1), _to(targets, session.device).flatten())
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


def train(run: Run, corpus: Corpus, display: Display, trust: bool = False) -> None:
    """Train ``run`` to its last step, from its newest checkpoint if it has one. Raises PosxError.

    Writes metrics.jsonl, meta.json and checkpoints. On SIGINT or SIGTERM the step is ended and saved, and
    Interrupted is raised.
    """
    if run.finished:
        return
    with locked(run), _signals() as caught:
        _train(run, corpus, display, caught, trust)


def _train(run: Run, corpus: Corpus, display: Display, caught: list[int], trust: bool) -> None:
    config, settings = run.config, run.config.train
    session = start(config, corpus, trust)
    model = session.model
    counts = count_parameters(model)
    done, spent = _resume(run, session, corpus, display)
    meta = _meta(run, session, corpus, counts)
    write_meta(run, meta)
    write_text(run.path / "tokenizer.json", (corpus.path / "tokenizer.json").read_text("utf-8"))
    display.say(
        f"{run.name}: {counts['total']:,} parameters, {settings.steps} steps of "
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
        "peak_memory_bytes": machine.peak_memory(session.device),
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


def check_same_text(run: Run, corpus: Corpus) -> None:
    """The corpus must be the one that the run was started on, or its test split holds training text."""
    meta = run.meta
    if meta["corpus_sha256"] != corpus.sha256 or meta["tokenizer_sha256"] != corpus.tokenizer_sha256:
        raise PosxError(
            f"The corpus is not the one that {run.name} was trained on: its text or its tokenizer has changed.",
            "Restore data.path as it was, or train the run again under another name.",
        )


def _resume(run: Run, session: Session, corpus: Corpus, display: Display) -> tuple[int, float]:
    """Load the newest checkpoint, if any: steps done and seconds spent. Later lines of metrics.jsonl go."""
    found = checkpoints.newest(run.checkpoints)
    kept = []
    step, spent = 0, 0.0
    if found is not None:
        check_same_text(run, corpus)
        checkpoints.load_weights(found, session.model)
        state = checkpoints.load_optimizer(found, session.model, session.optimizer)
        step, spent = state["step"], state["seconds"]
        kept = [row for row in metrics(run) if row["step"] <= step]
        display.say(f"Resuming {run.name} after step {step}.")
    write_text(run.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))
    return step, spent


def _meta(run: Run, session: Session, corpus: Corpus, counts: dict[str, int]) -> dict[str, Any]:
    context = run.config.train.context
    return {
        "posx": machine.versions()["posx"],
        "commit": machine.commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": None,
        "lineage": {"base_context": context, "train_context": context, "train_extension": "none"},
        **machine.facts(session.device, session.dtype),
        "threads": torch.get_num_threads(),
        "compiled": session.compiled,
        "backend": pick_backend(
            session.model.scheme,
            context,
            NONE,
            session.sequences // run.config.train.accumulation,
            run.config.model.n_heads,
            session.device,
        ),
        "corpus_sha256": corpus.sha256,
        "tokenizer_sha256": corpus.tokenizer_sha256,
        "vocab_size": corpus.vocab_size,
        "corpus": corpus.facts["splits"],
        "notes": corpus.notes,
        "parameters": counts,
        "epochs": round(session.sequences * context * run.config.train.steps / len(corpus.splits["train"].tokens), 3),
    }


def estimate(config: RunConfig, corpus: Corpus, trust: bool = False, steps: int = 3) -> dict[str, Any]:
    """Time, memory and epochs of a run, from a few timed steps of the real model; writes nothing.

    Compilation is left out of the trial, so a compiled run can be faster than estimated.
    """
    session = start(config, corpus, trust)
    set_compiled(session.model, False)
    train_step(session, 0)  # allocates what stays
    began = time.monotonic()
    for step in range(1, steps + 1):
        float(train_step(session, step)[0])
    seconds_a_step = (time.monotonic() - began) / steps
    tokens = session.sequences * config.train.context * config.train.steps
    return {
        "parameters": count_parameters(session.model),
        "tokens": tokens,
        "epochs": tokens / len(corpus.splits["train"].tokens),
        "seconds": seconds_a_step * config.train.steps,
        "tokens_per_second": session.sequences * config.train.context / seconds_a_step,
        "peak_memory_bytes": machine.peak_memory(session.device),
        "checkpoint_bytes": 12 * count_parameters(session.model)["total"],
        "device": machine.device_name(session.device),
        "dtype": str(session.dtype).removeprefix("torch."),
        "would_compile": session.compiled,
    }
