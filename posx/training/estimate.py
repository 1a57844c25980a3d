"""The time and memory of a run, estimated from a few timed steps of the real model."""

from __future__ import annotations

import time
from typing import Any

from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import RunConfig
from posx.data.corpus import Corpus
from posx.models.decoder import count_parameters
from posx.runtime import device as devices
from posx.runtime.memory import peak_memory
from posx.training.loop import train_step
from posx.training.state import set_compiled, start


def estimate(config: RunConfig, corpus: Corpus, catalog: Catalog = PACKAGED, steps: int = 3) -> dict[str, Any]:
    """Time, memory and epochs of a run, from a few timed steps of the real model. Writes nothing.

    The model is not compiled here, so a compiled run can be faster than estimated.
    """
    session = start(config, corpus, catalog)
    set_compiled(session.model, False)
    train_step(session, 0)  # allocates the optimizer's state
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
        "peak_memory_bytes": peak_memory(session.device),
        "checkpoint_bytes": 12 * count_parameters(session.model)["total"],
        "device": devices.device_name(session.device),
        "dtype": str(session.dtype).removeprefix("torch."),
        "would_compile": session.compiled,
    }
