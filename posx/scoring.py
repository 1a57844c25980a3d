"""The forward passes of an evaluation: windows in, the NLL of every target out, and on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from posx.attention import pick_backend
from posx.config import EvalConfig
from posx.corpus import Corpus, Split
from posx.extensions.base import Applied
from posx.files import whole_file
from posx.loss import nll
from posx.machine import to_device
from posx.model import Decoder
from posx.progress import Display
from posx.windows import TargetSet, Windows

# Logits of so many rows at a time: 2,048 rows of a vocabulary of 50,000 are 400 MB in float32.
LOGIT_ROWS = 2048


def scored_tokens(windows: Windows) -> np.ndarray:
    """Index into the split's tokens of every scored target, window after window; int64."""
    last = windows.starts + windows.lengths
    within = np.concatenate([np.arange(n) for n in windows.scored]) if len(last) else np.zeros(0, np.int64)
    return np.repeat(last - windows.scored + 1, windows.scored) + within


def documents_of(tokens: np.ndarray, split: Split) -> np.ndarray:
    """The document that each token (an index into the split's tokens) belongs to; int64."""
    return np.searchsorted(split.offsets, tokens, side="right") - 1


def context_of(windows: Windows) -> np.ndarray:
    """Tokens that the model could see before each scored target, in the order of :func:`scored_tokens`; int64."""
    within = scored_tokens(windows) - np.repeat(windows.starts, windows.scored)
    return within.astype(np.int64)


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
            ids = to_device(split.tokens[index].astype(np.int64), self.device)
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


def store_targets(folder: Path, targets: TargetSet) -> None:
    """The target set beside the results, under its hash."""
    path = folder / f"targets-{targets.sha256[:16]}.parquet"
    if not path.is_file():
        table = pa.table({"document": targets.documents, "last_target": targets.ends})
        about = {"sha256": targets.sha256, "stride": targets.stride, "target_context": targets.target_context}
        with whole_file(path) as temporary:
            pq.write_table(table.replace_schema_metadata({k: str(v) for k, v in about.items()}), temporary)
