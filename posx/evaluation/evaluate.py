"""Evaluation by docs/protocol.md: the same targets at every length, sums divided once, a record for each cell."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import EvalConfig, RunConfig
from posx.data.corpus import prepare
from posx.errors import PosxError, Unsupported, lacks_memory
from posx.evaluation.plan import Cell, Plan, cells_of
from posx.evaluation.protocols import make_protocol
from posx.evaluation.protocols.base import Protocol, Windows
from posx.evaluation.scorer import Scorer, context_of, documents_of, scored_tokens, store_targets
from posx.extensions.base import Applied
from posx.models import checkpoint as checkpoints
from posx.models.binding import bind
from posx.models.build import build_model, scheme_of
from posx.models.decoder import count_parameters
from posx.results.records import Record, read_record, write_record
from posx.results.sums import write_losses
from posx.runs.directory import Run
from posx.runs.identity import cell_key, group_hash, recipe_hash
from posx.runs.provenance import check_same_text, versions
from posx.runtime import device as devices
from posx.runtime.memory import peak_memory
from posx.runtime.threads import set_threads
from posx.utils.console import Display


def evaluate(plan: Plan, display: Display) -> list[Record]:
    """:func:`evaluate_all`, but raises PosxError if none of the requested cells could be computed."""
    records = evaluate_all(plan, display)
    refused = nothing_computed(plan, records)
    if refused is not None:
        raise refused
    return records


def nothing_computed(plan: Plan, records: list[Record]) -> PosxError | None:
    """The error if none of the requested cells could be computed, else None. ``records``: those of the plan."""
    asked = [record for cell, record in zip(plan.cells, records, strict=True) if cell in plan.asked]
    if any(record.status == "ok" for record in asked):
        return None
    first = asked[0]
    unsupported = first.status == "unsupported"
    hint = "" if unsupported else "Other lengths or extensions may work."
    return PosxError(f"{plan.run.name} at {first.length} tokens: {first.reason}", hint, code=2 if unsupported else 1)


def evaluate_all(plan: Plan, display: Display, folder: Path | None = None) -> list[Record]:
    """The records of ``plan.cells``, in order. Existing ones are read; others are computed and written to ``folder``.

    Default: the run's eval folder. The record of a cell that cannot be computed has a reason.
    """
    run = plan.run
    folder = folder or run.path / "eval"
    scorer, weights = load_scorer(run, plan.config, display, plan.catalog)
    protocol = make_protocol(scorer.corpus, plan.config, run.config.base_context)
    if protocol.targets is not None:
        store_targets(folder, protocol.targets)
    if not run.finished:
        display.say(f"Note: {run.name} is unfinished. Evaluating step {run.step} of {run.config.train.steps}.")
    evaluation = _Evaluation(plan, scorer, protocol, weights, folder, display)
    records = [evaluation.record(cell) for cell in plan.cells]
    display.finish()
    return records


def load_scorer(run: Run, config: EvalConfig, display: Display, catalog: Catalog = PACKAGED) -> tuple[Scorer, str]:
    """A scorer with the model and corpus of a run that has a checkpoint, and the hash of its weights."""
    corpus = prepare(run.config.data, run.config.tokenizer, display.say)
    check_same_text(run, corpus)
    found = checkpoints.newest(run.checkpoints)
    assert found is not None
    set_threads(config.threads)
    device = devices.pick_device(config.device)
    devices.prepare_for(device, exact=True)
    model = build_model(run.config, corpus.vocab_size, catalog)
    checkpoints.load_weights(found, model)
    model.to(device).eval()
    return Scorer(model, corpus, config, device), checkpoints.manifest(found)["model.safetensors"]["sha256"]


def resolve(applied: Applied) -> tuple[dict[str, Any], Unsupported | None]:
    """The parameters of the extensions at a length, or none and the error if they are unsupported."""
    try:
        return applied.resolved(), None
    except Unsupported as error:
        return {}, error


def identities(
    run_config: RunConfig, config: EvalConfig, say: Callable[[str], None], catalog: Catalog = PACKAGED
) -> list[list[Any]]:
    """The part of the key of each cell that does not depend on the weights, for :func:`cell_key`.

    Both configs are complete. Reads the corpus, but no weights. Raises PosxError.
    """
    protocol = make_protocol(prepare(run_config.data, run_config.tokenizer, say), config, run_config.base_context)
    scheme = scheme_of(run_config, catalog)
    _, cells = cells_of(run_config, config, catalog)
    named = []
    for cell in cells:
        applied = bind(cell.extensions, scheme, cell.length, cell.trained, run_config.train.reached)
        resolved, _ = resolve(applied)
        named.append([cell.extension, resolved, cell.length, protocol.sha256(cell.length), config.dtype])
    return named


@dataclass
class _Evaluation:
    """What all cells of a run share."""

    plan: Plan
    scorer: Scorer
    protocol: Protocol
    weights: str
    folder: Path
    display: Display

    @cached_property
    def notes(self) -> list[str]:
        """Notes for readers of the records."""
        run = self.plan.run
        unfinished = [] if run.finished else [f"step {run.step} of {run.config.train.steps}"]
        return [*self.scorer.corpus.notes, *unfinished]

    def record(self, cell: Cell) -> Record:
        """The record of a cell: the existing one if nothing has changed, else computed and written."""
        run, scorer, protocol = self.plan.run, self.scorer, self.protocol
        applied = bind(cell.extensions, scorer.model.scheme, cell.length, cell.trained, run.config.train.reached)
        resolved, refused = resolve(applied)
        windows, digest = protocol.windows(cell.length), protocol.sha256(cell.length)
        asked = [cell.extension, resolved, cell.length, digest, self.plan.config.dtype]
        path = self.folder / f"{cell_key(self.weights, asked)}.json"
        if path.is_file():
            kept = read_record(path)
            if kept.status == "unsupported" or (kept.status == "ok" and path.with_suffix(".parquet").is_file()):
                return kept
        record = replace(self._blank(cell, resolved, windows, digest), path=path)
        title = f"{run.name}  {cell.extension}  {cell.length}"
        began = time.monotonic()
        try:
            if refused:
                raise refused
            losses, backend = scorer.score(windows, applied, self.display, title)
        except Unsupported as error:
            record = replace(record, status="unsupported", reason=_unsupported(error, cell, run))
        except (MemoryError, RuntimeError) as error:
            if not (isinstance(error, torch.OutOfMemoryError) or lacks_memory(error)):
                raise
            record = replace(record, status="oom", reason=_out_of_memory(error, scorer))
        else:
            record = self._computed(record, windows, losses, backend, time.monotonic() - began)
        write_record(path, record)
        return record

    def _blank(self, cell: Cell, resolved: dict[str, Any], windows: Windows, digest: str) -> Record:
        """The record of a cell before it is computed."""
        run, config, targets = self.plan.run, self.plan.config, self.protocol.targets
        split, train, lineage = self.protocol.split, run.config.train, run.meta["lineage"]
        return Record(
            run=run.name,
            label=run.label,
            scheme=run.config.scheme["name"],
            scheme_params={k: v for k, v in run.config.scheme.items() if k not in ("name", "_target_")},
            extension=cell.extension,
            extension_params=resolved,
            seed=train.seed,
            base_context=lineage["base_context"],
            train_context=lineage["train_context"],
            train_extension=lineage["train_extension"],
            length=cell.length,
            protocol=config.protocol,
            split=config.split,
            stride=targets.stride if targets else None,
            target_context=targets.target_context if targets else None,
            n_targets=int(windows.scored.sum()),
            n_documents=len(np.unique(documents_of(scored_tokens(windows), split))),
            targets_sha256=digest,
            nats=None,
            bytes=0,
            status="ok",
            reason="",
            parameters=count_parameters(self.scorer.model)["total"],
            backend="",
            dtype=config.dtype,
            device=devices.device_name(self.scorer.device),
            seconds=0.0,
            tokens_per_second=0.0,
            peak_memory_bytes=0,
            model=run.config.model.name,
            data=run.config.data.name,
            corpus_sha256=self.scorer.corpus.sha256,
            config_sha256=group_hash(run.config),
            recipe_sha256=recipe_hash(run.config),
            parent_sha256=run.config.start.recipe_sha256,
            train_steps=train.steps,
            train_tokens=train.steps * (train.batch_tokens // train.context) * train.context,
            train_recipe=train.recipe,
            train_reach=train.reach,
            checkpoint_sha256=self.weights,
            max_targets=config.max_targets if targets else None,
            target_seed=config.seed if targets else None,
            left_out=targets.left_out if targets else 0,
            notes=self.notes,
            versions=versions(),
        )

    def _computed(self, record: Record, windows: Windows, losses: np.ndarray, backend: str, seconds: float) -> Record:
        """The record with its sums. The loss of every target is written next to it."""
        corpus, split = self.scorer.corpus, self.protocol.split
        order = scored_tokens(windows)
        document = documents_of(order, split)
        columns = {
            "position": (order - split.offsets[document]).astype(np.int32),
            "context": context_of(windows).astype(np.int32),
            "bytes": corpus.token_bytes[split.tokens[order]],
            "nll": losses,
        }
        assert record.path is not None
        write_losses(record.path.with_suffix(".parquet"), document, columns)
        nats = float(losses.astype(np.float64).sum())
        finite = math.isfinite(nats)
        return replace(
            record,
            nats=nats if finite else None,
            bytes=int(columns["bytes"].astype(np.int64).sum()),
            status="ok" if finite else "diverged",
            reason="" if finite else "the model's output is not finite at this length",
            backend=backend,
            seconds=round(seconds, 3),
            tokens_per_second=round(float(windows.lengths.sum()) / max(seconds, 1e-9), 1),
            peak_memory_bytes=peak_memory(self.scorer.device),
        )


def _unsupported(error: Unsupported, cell: Cell, run: Run) -> str:
    """The reason of an unsupported cell. A scheme knows only its own last position; a fine-tune may extend it."""
    if not any(one.changes == "positions" for one in cell.trained):
        return str(error)
    reached = run.config.train.reached
    return (
        f"{run.config.scheme['name']} positions, trained with {run.config.train.extension} at {reached}, end there. "
        f"Try --extension interpolate on top, or a length up to {reached}."
    )


def _out_of_memory(error: BaseException, scorer: Scorer) -> str:
    return f"out of memory ({type(error).__name__}); try eval.batch_tokens={max(1, scorer.batch_tokens // 4)}"
