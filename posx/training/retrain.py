"""Train a run again from its config alone, and first the runs that it starts from."""

from __future__ import annotations

import copy
from pathlib import Path

from posx.config.catalog import PACKAGED, Catalog
from posx.data.corpus import prepare
from posx.runs.directory import Run, create
from posx.runs.provenance import check_same_text
from posx.training.finetune import first_run, with_weights
from posx.training.loop import train
from posx.utils.console import Display


def train_again(run: Run, folder: Path, display: Display, catalog: Catalog = PACKAGED) -> Run:
    """Train ``run`` in ``folder`` under its name; for a fine-tune, first train the run that it starts from."""
    config = copy.deepcopy(run.config)
    config.train.threads = run.meta.get("threads")  # another number of threads sums in another order
    if config.start.run:
        first = train_again(first_run(run), folder, display, catalog)
        config = with_weights(config, first)
        config.start.run = first.name
    corpus = prepare(config.data, config.tokenizer, display.say)
    check_same_text(run, corpus)
    made = create(folder, run.name, config, resume=True)
    train(made, corpus, display, catalog)
    return made
