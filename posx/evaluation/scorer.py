"""The forward passes of an evaluation: the NLL of every target in some windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from posx.config.schema import EvalConfig
from posx.data.corpus import Corpus, Split
from posx.evaluation.protocols.base import Windows
from posx.evaluation.protocols.fixed_targets import TargetSet
from posx.extensions.base import Applied
from posx.models.attention.context import Call
from posx.models.decoder import Decoder
from posx.models.loss import nll
from posx.runtime.device import to_device
from posx.runtime.threads import MOST, at_once, pieces
from posx.utils.console import Display
from posx.utils.files import whole_file

# Rows of logits at a time: 2,048 rows with a vocabulary of 50,000 are 400 MB in float32.
LOGIT_ROWS = 2048


def scored_tokens(windows: Windows) -> np.ndarray:
    """Indices of the scored targets in the split's tokens, window after window; int64."""
    last = windows.starts + windows.lengths
    within = np.concatenate([np.arange(n) for n in windows.scored]) if len(last) else np.zeros(0, np.int64)
    return np.repeat(last - windows.scored + 1, windows.scored) + within


def documents_of(tokens: np.ndarray, split: Split) -> np.ndarray:
    """The document of each token, given as indices in the split's tokens; int64."""
    return np.searchsorted(split.offsets, tokens, side="right") - 1


def context_of(windows: Windows) -> np.ndarray:
    """Number of visible tokens before each scored target, in the order of :func:`scored_tokens`; int64."""
    within = scored_tokens(windows) - np.repeat(windows.starts, windows.scored)
    return within.astype(np.int64)


@dataclass
class Scorer:
    """A loaded model and its corpus, shared by all lengths and extensions of an evaluation."""

    model: Decoder
    corpus: Corpus
    config: EvalConfig
    device: torch.device

    @property
    def batch_tokens(self) -> int:
        """Input tokens of one forward pass: as many as fit a CPU's cache, or keep a GPU busy."""
        return self.config.batch_tokens or (4096 if self.device.type == "cpu" else 65536)

    def score(self, windows: Windows, extension: Applied, display: Display, title: str) -> tuple[np.ndarray, str]:
        """NLL in nats, float32, of every scored target in the order of :func:`scored_tokens`; and the backend.

        The names of several attention backends are joined with "+".
        """
        first = np.concatenate([[0], np.cumsum(windows.scored)])
        losses = np.empty(first[-1], dtype=np.float32)
        batches = list(self._batches(windows))
        side_by_side = self._side_by_side(batches, windows)
        waiting: Iterator[tuple[int, np.ndarray]] = iter(enumerate(batches))
        lock, done = Lock(), 0
        backends: list[list[str]] = [[] for _ in batches]
        display.start(title, len(windows.starts))

        def work() -> None:
            nonlocal done
            # One context for all batches: autocast casts the weights once per context.
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.dtype == "bfloat16"),
            ):
                while True:
                    with lock:
                        number, rows = next(waiting, (-1, np.empty(0)))
                    if number < 0:
                        return
                    values, backends[number] = self._score(windows, rows, extension)
                    for row, value in zip(rows, values, strict=True):
                        losses[first[row] : first[row + 1]] = value
                    with lock:
                        done += len(rows)
                        display.update(done)

        try:
            at_once([work] * side_by_side)
        finally:
            waiting = iter(())  # after an error or Ctrl-C, the other threads stop after their current batch
        return losses, "+".join(dict.fromkeys(name for names in backends for name in names))

    def _score(self, windows: Windows, rows: np.ndarray, extension: Applied) -> tuple[np.ndarray, list[str]]:
        """NLL [rows, scored] of windows of one shape, and the attention backends that ran."""
        length, tail = int(windows.lengths[rows[0]]), int(windows.scored[rows[0]])
        index = windows.starts[rows][:, None] + np.arange(length + 1)
        ids = to_device(self.corpus.splits[self.config.split].tokens[index].astype(np.int64), self.device)
        call = Call(len(rows), self.model.config.n_heads, tail if tail < length else None)
        prepared = self.model.prepare(self.model.scheme.positions(length, self.device), extension, call)
        hidden = self.model.run(ids[:, :-1], prepared)
        losses = self._nll(hidden.flatten(0, 1), ids[:, -tail:].flatten()).view(len(rows), tail)
        return losses.cpu().numpy(), prepared.backends

    def _side_by_side(self, batches: list[np.ndarray], windows: Windows) -> int:
        """The number of concurrent batches, one thread each: operations of small models are too short to parallelize.

        A batch of one long window gets all threads: several at a time would need too much memory.
        """
        longest = int(windows.lengths.max())
        return 1 if longest > self.batch_tokens else pieces(self.device, len(batches))

    def _nll(self, hidden: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of features [N, C] and targets [N] as [N], some rows of logits at a time."""
        parts = []
        for start in range(0, len(hidden), LOGIT_ROWS):
            rows = slice(start, start + LOGIT_ROWS)
            with torch.autocast(self.device.type, enabled=False):  # logits are always float32
                parts.append(nll(self.model.logits(hidden[rows].float()), wanted[rows]))
        return torch.cat(parts)

    def _batches(self, windows: Windows) -> Iterator[np.ndarray]:
        """Batches of windows of one shape, as large as ``eval.batch_tokens`` allows."""
        shapes = np.stack([windows.lengths, windows.scored], axis=1)
        for shape in np.unique(shapes, axis=0):
            rows = np.flatnonzero((shapes == shape).all(axis=1))
            size = max(1, self.batch_tokens // int(shape[0]) // pieces(self.device, MOST))  # threads share the cache
            for start in range(0, len(rows), size):
                yield rows[start : start + size]


def store_targets(folder: Path, targets: TargetSet) -> None:
    """Write the target set next to the results, named by its hash."""
    path = folder / f"targets-{targets.sha256[:16]}.parquet"
    if not path.is_file():
        table = pa.table({"document": targets.documents, "last_target": targets.ends})
        about = {"sha256": targets.sha256, "stride": targets.stride, "target_context": targets.target_context}
        with whole_file(path) as temporary:
            pq.write_table(table.replace_schema_metadata({k: str(v) for k, v in about.items()}), temporary)
