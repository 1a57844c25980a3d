"""Evaluation after docs/protocol.md: the same targets at every length, sums divided once, every cell a record."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import TRAINED, EvalConfig
from posx.data.corpus import Corpus, prepare
from posx.errors import PosxError, Unsupported, lacks_memory
from posx.evaluation.scorer import Scorer, context_of, documents_of, scored_tokens, store_targets
from posx.evaluation.windows import (
    TargetSet,
    check_windows,
    comparable,
    fixed_targets,
    non_overlapping,
    parse_length,
    stream,
    windows_of_targets,
)
from posx.extensions.base import Extension
from posx.models import checkpoint as checkpoints
from posx.models.binding import bind, check_fit, parse_extension, spec_name
from posx.models.build import build_model, complete, scheme_of
from posx.models.classes import known_extensions
from posx.models.decoder import count_parameters
from posx.results.records import Record, read_record, write_record
from posx.results.sums import write_losses
from posx.runs.directory import Run, group_hash, recipe_hash
from posx.runtime import device as machine
from posx.training.resume import check_same_text
from posx.utils.console import Display
from posx.utils.files import sha256_of


@dataclass(frozen=True, eq=False)
class Cell:
    """One number to compute: an extension at a length, on top of the one that the run was ``trained`` with."""

    specs: tuple[Extension, ...]
    length: int
    trained: tuple[Extension, ...] = ()

    @property
    def extension(self) -> str:
        """``trained`` stands for what the run was trained with, which records name beside."""
        if not self.trained:
            return spec_name(self.specs)
        return "+".join([TRAINED, *([spec_name(self.specs)] if self.specs else [])])


@dataclass(frozen=True)
class Plan:
    """What an evaluation of one run will do, after every check that needs no work."""

    run: Run
    config: EvalConfig  # with its stride and target_context filled in
    asked: tuple[Cell, ...]
    cells: tuple[Cell, ...]  # asked, and the 1x control
    catalog: Catalog = PACKAGED


def make_plan(run: Run, config: EvalConfig, catalog: Catalog = PACKAGED) -> Plan:
    """Read lengths and extensions, and refuse what cannot be: before any work. Raises PosxError."""
    if run.step == 0:
        raise PosxError(
            f"{run.path} has no checkpoint yet.",
            f"Train it: posx train --resume --name {run.name} with the overrides that it was started with.",
        )
    run = replace(run, config=complete(run.config, catalog))
    context = run.config.base_context
    config = comparable(config, [context])
    lengths = list(dict.fromkeys(parse_length(text, context) for text in config.lengths))
    known = known_extensions(catalog)
    scheme = scheme_of(run.config, catalog)
    trained = tuple(parse_extension(run.config.train.extension, catalog))
    compositions: dict[str, Cell] = {}
    for text in config.extensions:
        specs = tuple(parse_extension(text, catalog))
        check_fit(specs, run.config.scheme["name"], scheme, known)
        cell = Cell(specs, context, () if text.strip() == "none" else trained)
        compositions[cell.extension] = cell
    asked = tuple(replace(cell, length=length) for cell in compositions.values() for length in lengths)
    control = Cell((), context, trained)
    # A curve is drawn for each length by itself; all else is a change against the control.
    alone = config.protocol == "curve" or any(c.extension == control.extension and c.length == context for c in asked)
    cells = asked if alone else (control, *asked)
    check_windows(config, [cell.length for cell in cells])
    return Plan(run, config, asked, cells, catalog)


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


def evaluate(plan: Plan, display: Display) -> list[Record]:
    """:func:`evaluate_all`, but a PosxError where none of the cells that were asked for could be computed."""
    records = evaluate_all(plan, display)
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


def evaluate_all(plan: Plan, display: Display, folder: Path | None = None) -> list[Record]:
    """The records of ``plan.cells``, in their order, computed or kept; also written to ``folder``.

    That is the run's eval folder, if left out. A cell that cannot be computed is a record with its reason.
    """
    run, config = plan.run, plan.config
    folder = folder or run.path / "eval"
    scorer, weights = load_scorer(run, config, display, plan.catalog)
    corpus = scorer.corpus
    targets = None
    if config.protocol in ("fixed-targets", "curve"):
        targets = targets_of(corpus, config, run.config.base_context)
        store_targets(folder, targets)
    if not run.finished:
        display.say(f"Note: {run.name} is unfinished; this is its step {run.step} of {run.config.train.steps}.")
    notes = [*corpus.notes, *([f"step {run.step} of {run.config.train.steps}"] if not run.finished else [])]
    records = [_cell(plan, cell, scorer, targets, weights, notes, display, folder) for cell in plan.cells]
    display.finish()
    return records


def load_scorer(run: Run, config: EvalConfig, display: Display, catalog: Catalog = PACKAGED) -> tuple[Scorer, str]:
    """The model of a run that has a checkpoint, on its text, and the hash of its weights."""
    corpus = prepare(run.config.data, run.config.tokenizer, display.say)
    check_same_text(run, corpus)
    found = checkpoints.newest(run.checkpoints)
    assert found is not None
    machine.set_threads(config.threads)
    device = machine.pick_device(config.device)
    machine.prepare_for(device, exact=True)
    model = build_model(run.config, corpus.vocab_size, catalog)
    checkpoints.load_weights(found, model)
    model.to(device).eval()
    return Scorer(model, corpus, config, device), checkpoints.manifest(found)["model.safetensors"]["sha256"]


def _cell(
    plan: Plan,
    cell: Cell,
    scorer: Scorer,
    targets: TargetSet | None,
    weights: str,
    notes: list[str],
    display: Display,
    folder: Path,
) -> Record:
    """One record: kept from before where nothing has changed, else computed and written."""
    run, config = plan.run, plan.config
    model, corpus, split = scorer.model, scorer.corpus, scorer.corpus.splits[config.split]
    applied = bind(cell.specs, model.scheme, cell.length, cell.trained, run.config.train.reached)
    refused: Unsupported | None = None
    try:
        resolved = applied.resolved()
    except Unsupported as error:  # parameters that cannot be at this length
        resolved, refused = {}, error
    if targets is not None:
        windows, digest = windows_of_targets(targets, cell.length), targets.sha256
        if config.protocol == "curve":  # the same windows, but all of their predictions count
            windows = replace(windows, scored=windows.lengths)
            digest = sha256_of(digest, config.protocol, cell.length)
    else:
        cut = non_overlapping if config.protocol == "non-overlapping" else stream
        windows = cut(split, cell.length)
        digest = sha256_of(corpus.sha256, corpus.tokenizer_sha256, config.split, config.protocol)
    asked = [cell.extension, resolved, cell.length, digest, config.dtype]
    # With the version: numbers from before a correction are computed again.
    key = sha256_of(weights, asked, notes, machine.versions()["posx"])[:16]
    path = folder / f"{key}.json"
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
        config_sha256=group_hash(run.config),
        recipe_sha256=recipe_hash(run.config),
        parent_sha256=run.config.start.recipe_sha256,
        train_steps=run.config.train.steps,
        train_tokens=run.config.train.steps
        * (run.config.train.batch_tokens // run.config.train.context)
        * run.config.train.context,
        train_recipe=run.config.train.recipe,
        train_reach=run.config.train.reach,
        checkpoint_sha256=weights,
        max_targets=config.max_targets if targets else None,
        target_seed=config.seed if targets else None,
        left_out=targets.left_out if targets else 0,
        notes=notes,
        versions=machine.versions(),
        path=path,
    )
    title = f"{run.name}  {cell.extension}  {cell.length}"
    began = time.monotonic()
    try:
        if refused:
            raise refused
        losses = scorer.score(windows, applied, display, title)
    except Unsupported as error:
        record = replace(record, status="unsupported", reason=_unsupported(error, cell, run))
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, torch.OutOfMemoryError) or lacks_memory(error)):
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
        document = documents_of(order, split)
        columns = {
            "position": (order - split.offsets[document]).astype(np.int32),
            "context": context_of(windows).astype(np.int32),
            "bytes": corpus.token_bytes[split.tokens[order]],
            "nll": losses,
        }
        write_losses(parquet, document, columns)
    write_record(path, record)
    return record


def _unsupported(error: Unsupported, cell: Cell, run: Run) -> str:
    """The scheme knows its own end alone; a fine-tune with an extension reaches further."""
    if not any(one.changes == "positions" for one in cell.trained):
        return str(error)
    reached = run.config.train.reached
    return (
        f"{run.config.scheme['name']} positions, trained with {run.config.train.extension} at {reached}, end there. "
        f"Try --extension interpolate on top, or a length up to {reached}."
    )


def _out_of_memory(error: BaseException, scorer: Scorer) -> str:
    return f"out of memory ({type(error).__name__}); try eval.batch_tokens={max(1, scorer.batch_tokens // 4)}"
