"""Evaluation after docs/protocol.md: the same targets at every length, sums divided once, every cell a record."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from posx import checkpoint as checkpoints
from posx import machine
from posx.attention import pick_backend
from posx.components import ExtensionSpec, bind, check_fit, load_class, spec_name
from posx.compose import known_extensions, parse_extension
from posx.config import EvalConfig
from posx.corpus import Corpus, Split, prepare
from posx.errors import PosxError, Unsupported
from posx.extensions.base import Applied
from posx.files import sha256_of, whole_file
from posx.loss import nll
from posx.model import Decoder, count_parameters
from posx.progress import Display
from posx.records import Record, read_record, write_record
from posx.runs import Run, group_hash
from posx.schemes.base import Scheme
from posx.train import build_model, check_same_text
from posx.windows import (
    TargetSet,
    Windows,
    check_windows,
    comparable,
    fixed_targets,
    non_overlapping,
    parse_length,
    stream,
    windows_of_targets,
)

# Logits of so many rows at a time: 2,048 rows of a vocabulary of 50,000 are 400 MB in float32.
LOGIT_ROWS = 2048


@dataclass(frozen=True, eq=False)
class Cell:
    """One number to compute: an extension at a length."""

    specs: tuple[ExtensionSpec, ...]
    length: int

    @property
    def extension(self) -> str:
        return spec_name(self.specs)


@dataclass(frozen=True)
class Plan:
    """What an evaluation of one run will do, after every check that needs no work."""

    run: Run
    config: EvalConfig  # with its stride and target_context filled in
    asked: tuple[Cell, ...]
    cells: tuple[Cell, ...]  # asked, and the 1x control


def make_plan(run: Run, config: EvalConfig, config_dir: Path | None = None, trust: bool = False) -> Plan:
    """Read lengths and extensions, and refuse what cannot be: before any work. Raises PosxError."""
    if run.step == 0:
        raise PosxError(
            f"{run.path} has no checkpoint yet.",
            f"Train it: posx train --resume --name {run.name} with the overrides that it was started with.",
        )
    context = run.config.train.context
    config = comparable(config, [context])
    lengths = list(dict.fromkeys(parse_length(text, context) for text in config.lengths))
    known = known_extensions(config_dir, trust)
    scheme = load_class(run.config.scheme["_target_"], Scheme, trust)
    compositions: dict[str, tuple[ExtensionSpec, ...]] = {}
    for text in config.extensions:
        specs = tuple(parse_extension(text, config_dir, trust))
        check_fit(specs, run.config.scheme["name"], scheme, known)
        compositions[spec_name(specs)] = specs
    asked = tuple(Cell(specs, length) for specs in compositions.values() for length in lengths)
    control = Cell((), context)
    cells = asked if any(not c.specs and c.length == context for c in asked) else (control, *asked)
    check_windows(config, [cell.length for cell in cells])
    return Plan(run, config, asked, cells)


def targets_of(corpus: Corpus, config: EvalConfig, context: int) -> TargetSet:
    """The target set of a config that :func:`comparable` has completed. Raises PosxError where it is too small."""
    assert config.target_context
    assert config.stride
    return fixed_targets(
        corpus,
        config.split,
        config.target_context,
        config.stride,
        config.max_targets,
        config.seed,
        control=context,
    )


def evaluate(plan: Plan, display: Display, trust: bool = False) -> list[Record]:
    """:func:`evaluate_all`, but a PosxError where none of the cells that were asked for could be computed."""
    records = evaluate_all(plan, display, trust)
    refused = nothing_computed(plan, records)
    if refused is not None:
        raise refused
    return records


def nothing_computed(plan: Plan, records: list[Record]) -> PosxError | None:
    """The error of an evaluation that computed nothing of what was asked, else None. ``records`` are the plan's."""
    asked = [record for cell, record in zip(plan.cells, records, strict=True) if cell in plan.asked]
    if any(record.status == "ok" for record in asked):
        return None
    first = asked[0]
    unsupported = first.status == "unsupported"
    hint = "" if unsupported else "Other lengths or extensions may work."
    return PosxError(f"{plan.run.name} at {first.length} tokens: {first.reason}", hint, code=2 if unsupported else 1)


def evaluate_all(plan: Plan, display: Display, trust: bool = False) -> list[Record]:
    """The records of ``plan.cells``, in their order, computed or kept; also written to the run's eval folder.

    A cell that cannot be computed is a record with its reason.
    """
    run, config = plan.run, plan.config
    corpus = prepare(run.config.data, run.config.tokenizer, display.say)
    check_same_text(run, corpus)
    found = checkpoints.newest(run.checkpoints)
    assert found is not None
    machine.set_threads(config.threads)
    device = machine.pick_device(config.device)
    model = build_model(run.config, corpus.vocab_size, trust)
    checkpoints.load_weights(found, model)
    model.to(device).eval()
    scorer = Scorer(model, corpus, config, device)
    targets = None
    if config.protocol == "fixed-targets":
        targets = targets_of(corpus, config, run.config.train.context)
        _store_targets(run, targets)
    if not run.finished:
        display.say(f"Note: {run.name} is unfinished; this is its step {run.step} of {run.config.train.steps}.")
    notes = [*corpus.notes, *([f"step {run.step} of {run.config.train.steps}"] if not run.finished else [])]
    weights = checkpoints.manifest(found)["model.safetensors"]["sha256"]

    records = [_cell(plan, cell, scorer, targets, weights, notes, display) for cell in plan.cells]
    display.finish()
    return records


def _cell(
    plan: Plan,
    cell: Cell,
    scorer: Scorer,
    targets: TargetSet | None,
    weights: str,
    notes: list[str],
    display: Display,
) -> Record:
    """One record: kept from before where nothing has changed, else computed and written."""
    run, config = plan.run, plan.config
    model, corpus, split = scorer.model, scorer.corpus, scorer.corpus.splits[config.split]
    applied = bind(cell.specs, model.scheme, cell.length)
    resolved = applied.resolved()
    if targets is not None:
        windows, digest = windows_of_targets(targets, cell.length), targets.sha256
    else:
        cut = non_overlapping if config.protocol == "non-overlapping" else stream
        windows = cut(split, cell.length)
        digest = sha256_of(corpus.sha256, corpus.tokenizer_sha256, config.split, config.protocol)
    asked = [cell.extension, resolved, cell.length, digest, config.dtype]
    # With the version: numbers from before a correction are computed again.
    key = sha256_of(weights, asked, notes, machine.versions()["posx"])[:16]
    path = run.path / "eval" / f"{key}.json"
    parquet = path.with_suffix(".parquet")
    if path.is_file():
        kept = read_record(path)
        if kept.status == "unsupported" or (kept.status == "ok" and parquet.is_file()):
            return kept

    meta = run.meta
    order = scored_tokens(windows)
    record = Record(
        run=run.name,
        label=run.label,
        scheme=run.config.scheme["name"],
        scheme_params={k: v for k, v in run.config.scheme.items() if k not in ("name", "_target_")},
        extension=cell.extension,
        extension_params=resolved,
        seed=run.config.train.seed,
        base_context=meta["lineage"]["base_context"],
        train_context=meta["lineage"]["train_context"],
        train_extension=meta["lineage"]["train_extension"],
        length=cell.length,
        protocol=config.protocol,
        split=config.split,
        stride=targets.stride if targets else None,
        target_context=targets.target_context if targets else None,
        n_targets=int(windows.scored.sum()),
        n_documents=len(np.unique(documents_of(order, split))),
        targets_sha256=digest,
        nats=None,
        bytes=0,
        status="ok",
        reason="",
        parameters=count_parameters(model)["total"],
        backend="",
        dtype=config.dtype,
        device=machine.device_name(scorer.device),
        seconds=0.0,
        tokens_per_second=0.0,
        peak_memory_bytes=0,
        model=run.config.model.name,
        data=run.config.data.name,
        corpus_sha256=corpus.sha256,
        config_sha256=group_hash(run),
        checkpoint_sha256=weights,
        max_targets=config.max_targets if targets else None,
        target_seed=config.seed if targets else None,
        left_out=targets.left_out if targets else 0,
        notes=notes,
        versions=machine.versions(),
    )
    title = f"{run.name}  {cell.extension}  {cell.length}"
    began = time.monotonic()
    try:
        losses = scorer.score(windows, applied, display, title)
    except Unsupported as error:
        record = replace(record, status="unsupported", reason=str(error))
    except (MemoryError, torch.OutOfMemoryError) as error:
        record = replace(record, status="oom", reason=_out_of_memory(error, scorer))
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        record = replace(record, status="oom", reason=_out_of_memory(error, scorer))
    else:
        seconds = time.monotonic() - began
        nats = float(losses.astype(np.float64).sum())
        record = replace(
            record,
            nats=nats if math.isfinite(nats) else None,
            bytes=int(corpus.token_bytes[split.tokens[order]].astype(np.int64).sum()),
            status="ok" if math.isfinite(nats) else "diverged",
            reason="" if math.isfinite(nats) else "the model's output is not finite at this length",
            backend=scorer.backend(cell.length, applied),
            seconds=round(seconds, 3),
            tokens_per_second=round(float(windows.lengths.sum()) / max(seconds, 1e-9), 1),
            peak_memory_bytes=machine.peak_memory(scorer.device),
        )
        _write_targets_nll(parquet, split, corpus, windows, order, losses)
    write_record(path, record)
    return record


def _out_of_memory(error: BaseException, scorer: Scorer) -> str:
    return f"out of memory ({type(error).__name__}); try eval.batch_tokens={max(1, scorer.batch_tokens // 4)}"


def scored_tokens(windows: Windows) -> np.ndarray:
    """Index into the split's tokens of every scored target, window after window; int64."""
    last = windows.starts + windows.lengths
    within = np.concatenate([np.arange(n) for n in windows.scored]) if len(last) else np.zeros(0, np.int64)
    return np.repeat(last - windows.scored + 1, windows.scored) + within


def documents_of(tokens: np.ndarray, split: Split) -> np.ndarray:
    """The document that each token (an index into the split's tokens) belongs to; int64."""
    return np.searchsorted(split.offsets, tokens, side="right") - 1


@dataclass
class Scorer:
    """A loaded model on its text; the lengths and extensions of one call share it."""

    model: Decoder
    corpus: Corpus
    config: EvalConfig
    device: torch.device

    @property
    def batch_tokens(self) -> int:
        """Input tokens of one forward pass: what fits a CPU's cache, or fills a GPU."""
        return self.config.batch_tokens or (4096 if self.device.type == "cpu" else 65536)

    @torch.inference_mode()
    def score(self, windows: Windows, extension: Applied, display: Display, title: str) -> np.ndarray:
        """NLL in nats, float32, of every scored target in the order of :func:`scored_tokens`."""
        first = np.concatenate([[0], np.cumsum(windows.scored)])
        losses = np.empty(first[-1], dtype=np.float32)
        split = self.corpus.splits[self.config.split]
        display.start(title, len(windows.starts))
        done = 0
        for rows in self._batches(windows):
            length, tail = int(windows.lengths[rows[0]]), int(windows.scored[rows[0]])
            index = windows.starts[rows][:, None] + np.arange(length + 1)
            ids = torch.from_numpy(split.tokens[index].astype(np.int64)).to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.dtype == "bfloat16"):
                hidden = self.model(ids[:, :-1], extension=extension, tail=tail if tail < length else None)
            wanted = ids[:, -tail:].flatten()
            values = self._nll(hidden.flatten(0, 1), wanted).view(len(rows), tail).cpu().numpy()
            for row, value in zip(rows, values, strict=True):
                losses[first[row] : first[row + 1]] = value
            done += len(rows)
            display.update(done)
        return losses

    def _nll(self, hidden: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """[N, C] and [N] to [N], some rows of logits at a time."""
        parts = []
        for start in range(0, len(hidden), LOGIT_ROWS):
            rows = slice(start, start + LOGIT_ROWS)
            parts.append(nll(self.model.logits(hidden[rows]), wanted[rows]))
        return torch.cat(parts)

    def _batches(self, windows: Windows) -> Iterator[np.ndarray]:
        """Rows of windows of one shape, as many as ``eval.batch_tokens`` allows."""
        shapes = np.stack([windows.lengths, windows.scored], axis=1)
        for shape in np.unique(shapes, axis=0):
            rows = np.flatnonzero((shapes == shape).all(axis=1))
            size = max(1, self.batch_tokens // int(shape[0]))
            for start in range(0, len(rows), size):
                yield rows[start : start + size]

    @torch.inference_mode()
    def backend(self, length: int, extension: Applied) -> str:
        """The name of the path that attention takes at this length."""
        batch = max(1, self.batch_tokens // length)
        return pick_backend(self.model.scheme, length, extension, batch, self.model.config.n_heads, self.device)


def _store_targets(run: Run, targets: TargetSet) -> None:
    """The target set beside the results, under its hash."""
    path = run.path / "eval" / f"targets-{targets.sha256[:16]}.parquet"
    if not path.is_file():
        table = pa.table({"document": targets.documents, "last_target": targets.ends})
        about = {"sha256": targets.sha256, "stride": targets.stride, "target_context": targets.target_context}
        _write_parquet(path, table, about)


def _write_targets_nll(
    path: Path, split: Split, corpus: Corpus, windows: Windows, order: np.ndarray, losses: np.ndarray
) -> None:
    """NLL of every target, with its document, its position there and its length in bytes."""
    document = documents_of(order, split)
    table = pa.table(
        {
            "document": document.astype(np.int32),
            "position": (order - split.offsets[document]).astype(np.int32),
            "bytes": corpus.token_bytes[split.tokens[order]],
            "nll": losses,
        }
    )
    _write_parquet(path, table, {})


def _write_parquet(path: Path, table: pa.Table, about: dict[str, Any]) -> None:
    with whole_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata({k: str(v) for k, v in about.items()}), temporary)
