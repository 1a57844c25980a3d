"""The start of a run: its newest checkpoint, the weights that it starts from, and its meta.json."""

from __future__ import annotations

from typing import Any

import torch

from posx.data.corpus import Corpus
from posx.errors import PosxError
from posx.models import checkpoint as checkpoints
from posx.models.decoder import count_parameters
from posx.runs import provenance
from posx.runs.directory import Run
from posx.runs.provenance import check_same_text
from posx.runtime import device as devices
from posx.training.finetune import first_run
from posx.training.state import Session
from posx.utils.console import Display


def resume(run: Run, session: Session, corpus: Corpus, display: Display) -> tuple[int, float]:
    """Load the newest checkpoint, if any. Returns the steps done and the seconds they took.

    A fine-tune without a checkpoint loads the weights of the run that it starts from.
    """
    found = checkpoints.newest(run.checkpoints)
    step, spent = 0, 0.0
    if found is not None:
        check_same_text(run, corpus)
        checkpoints.load_weights(found, session.model)
        state = checkpoints.load_optimizer(found, session.model, session.optimizer)
        step, spent = state["step"], state["seconds"]
        display.say(f"Resuming {run.name} after step {step}.")
    elif run.config.start.run:
        first = first_run(run)
        check_same_text(first, corpus)
        _load_first(run, first, session)
        display.say(f"{run.name} starts from the weights of {first.name}.")
    return step, spent


def _load_first(run: Run, first: Run, session: Session) -> None:
    found, wanted = checkpoints.newest(first.checkpoints), run.config.start.weights_sha256
    if found is None or checkpoints.manifest(found)["model.safetensors"]["sha256"] != wanted:
        raise PosxError(
            f"{first.name} no longer has the weights that {run.name} should start from ({wanted[:8]}).",
            "Start the fine-tune again under another --name.",
        )
    checkpoints.load_weights(found, session.model)


def first_meta(run: Run, session: Session, corpus: Corpus) -> dict[str, Any]:
    """meta.json of a run that starts or resumes: device, backend and versions."""
    config = run.config
    context = config.train.context
    return {
        **provenance.started(config),
        **devices.facts(session.device, session.dtype),
        "threads": torch.get_num_threads(),
        "compiled": session.compiled,
        "backend": "",  # known after the first step
        "corpus_sha256": corpus.sha256,
        "tokenizer_sha256": corpus.tokenizer_sha256,
        "vocab_size": corpus.vocab_size,
        "corpus": corpus.facts["splits"],
        "notes": corpus.notes,
        "parameters": count_parameters(session.model),
        "epochs": round(session.sequences * context * config.train.steps / len(corpus.splits["train"].tokens), 3),
    }
