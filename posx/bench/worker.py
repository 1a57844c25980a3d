"""The process that posx bench measures: it trains and evaluates one scheme in bursts, on request.

``python -m posx.bench.worker NAME`` starts it (see process.py); NAME only identifies it in a list of processes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from posx.bench.process import serve
from posx.config.catalog import Catalog
from posx.config.schema import EvalConfig, RunConfig
from posx.config.validate import typed
from posx.data.corpus import prepare
from posx.evaluation.protocols.fixed_targets import TargetSet, targets_of, windows_of_targets
from posx.evaluation.scorer import Scorer
from posx.models.binding import bind, parse_extension
from posx.models.build import build_model, complete
from posx.models.decoder import count_parameters
from posx.runtime import device as devices
from posx.runtime.memory import HighWater
from posx.training.loop import train_step
from posx.training.state import start
from posx.utils.console import Display


def burst(once: Callable[[], int], seconds: float) -> dict[str, Any]:
    """Call ``once``, which returns its number of input tokens, until ``seconds`` have passed; at least once."""
    began, tokens, runs = time.perf_counter(), 0, 0
    while True:
        tokens, runs = tokens + once(), runs + 1
        spent = time.perf_counter() - began
        if spent >= seconds:
            return {"seconds": spent, "tokens": tokens, "runs": runs}


class Worker:
    """A model with one scheme, ready to be trained and evaluated in bursts."""

    def __init__(self, spec: dict[str, Any]):
        self.catalog = Catalog.from_json(spec)
        self.config = complete(typed(RunConfig, spec["config"]), self.catalog)
        self.eval = typed(EvalConfig, spec["eval"])
        self.trained_with = parse_extension(self.config.train.extension, self.catalog)
        self.corpus = prepare(self.config.data, self.config.tokenizer, _to_stderr)
        self.memory = HighWater(devices.pick_device(self.config.train.device))
        self.session = start(self.config, self.corpus, self.catalog)
        self.step = self.next_target = 0

    @cached_property
    def scorer(self) -> Scorer:
        """A scorer with the same weights in a second model, because evaluation is not compiled."""
        model = build_model(self.config, self.corpus.vocab_size, self.catalog).to(self.session.device)
        model.load_state_dict(self.session.model.state_dict(), assign=True)
        return Scorer(model.eval(), self.corpus, self.eval, self.session.device)

    @cached_property
    def targets(self) -> TargetSet:
        return targets_of(self.corpus, self.eval, self.config.base_context)

    def about(self) -> dict[str, Any]:
        """The setup of this process, for the table."""
        return {
            "parameters": count_parameters(self.session.model)["total"],
            "vocab_size": self.corpus.vocab_size,
            "threads": torch.get_num_threads(),
            "dtype": str(self.session.dtype).removeprefix("torch."),
            "compiled": self.session.compiled,
        }

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """A burst of training, or of evaluation at ``length``; with ``memory`` also its peak memory."""
        length = request.get("length")
        once = self._train if length is None else lambda: self._evaluate(length)
        devices.prepare_for(self.session.device, exact=length is not None)  # as posx train and posx eval do
        if request.get("memory"):
            once()  # excludes one-time work, for example compilation, from the peak
            self.memory.reset()
        timing = burst(once, request["seconds"])
        return timing | ({"peak_memory_bytes": self.memory.peak()} if request.get("memory") else {})

    def _train(self) -> int:
        float(train_step(self.session, self.step)[0])  # waits for the device
        self.step += 1
        return self.session.sequences * self.config.train.context

    def _evaluate(self, length: int) -> int:
        """One forward pass over the next few windows."""
        count = len(self.targets.ends)
        first = self.next_target % count
        rows = slice(first, min(count, first + max(1, self.scorer.batch_tokens // length)))
        self.next_target += rows.stop - rows.start
        batch = replace(self.targets, ends=self.targets.ends[rows], documents=self.targets.documents[rows])
        windows = windows_of_targets(batch, length)
        applied = bind((), self.scorer.model.scheme, length, self.trained_with, self.config.train.reached)
        self.scorer.score(windows, applied, Display(quiet=True), "")
        return int(windows.lengths.sum())


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    serve(Worker)
