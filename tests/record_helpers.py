"""Records with the losses of their targets on disk, as evaluations leave them; every number is known beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posx.results.records import Record, write_record
from test_records import record

L = 64
# 24 documents that hold unlike numbers of targets, and are not the first ones of their split.
COUNTS = np.array([3, 5, 8] * 8)
DOCUMENTS = np.repeat(np.arange(24) * 2 + 3, COUNTS)
TARGETS = int(COUNTS.sum())
FEW = DOCUMENTS[: int(COUNTS[:7].sum())]  # the first seven of them

ROPE: dict[str, Any] = {"label": "rope", "scheme": "rope", "config_sha256": "33" * 32}
ALIBI: dict[str, Any] = {"label": "alibi", "scheme": "alibi", "config_sha256": "55" * 32}
# The same recipe as ROPE, trained at 256 from scratch.
LONG: dict[str, Any] = ROPE | {"config_sha256": "44" * 32, "base_context": 256, "train_context": 256}
RECIPE = "99" * 32


def hardness(seed: int = 0, documents: np.ndarray = DOCUMENTS, level: float = 4.0) -> np.ndarray:
    """NLL of the targets [T], float64, unlike from target to target and from document to document."""
    draw = np.random.default_rng([7, seed])
    values = level + 0.4 * draw.standard_normal(len(documents))
    return values + 0.3 * draw.standard_normal(int(documents.max()) + 1)[documents]


def by_document(mean: float, spread: float, documents: np.ndarray = DOCUMENTS, seed: int = 0) -> np.ndarray:
    """A difference [T] of exactly this mean over the targets, that varies between documents by ``spread``."""
    draw = np.random.default_rng([8, seed]).standard_normal(int(documents.max()) + 1)[documents]
    return mean + spread * (draw - draw.mean())


class Shelf:
    """A runs directory. ``put`` writes a record and its losses there and hands back the record with its path."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.records: list[Record] = []

    def put(
        self,
        nll: np.ndarray | None,
        documents: np.ndarray = DOCUMENTS,
        position: np.ndarray | None = None,
        context: np.ndarray | None = None,
        losses: bool = True,
        **changes: Any,
    ) -> Record:
        """``nll`` [T] is kept in float32, whose sum the record holds; None: a cell that could not be computed."""
        changes.setdefault("run", f"{changes.get('label', 'rope')}-seed{changes.get('seed', 0)}")
        folder = self.folder / changes["run"] / "eval"
        folder.mkdir(parents=True, exist_ok=True)
        (folder.parent / "config.yaml").touch()
        changes |= {"n_targets": len(documents), "n_documents": len(np.unique(documents)), "bytes": 3 * len(documents)}
        made = record(None if nll is None else 0.0, **changes)
        made = replace(made, path=folder / f"{len(self.records):04d}.json")
        if nll is not None:
            kept = nll.astype(np.float32)
            made = replace(made, nats=float(kept.astype(np.float64).sum()))
            if losses:
                columns = {
                    "document": pa.array(documents, pa.int32()),
                    "position": pa.array(np.arange(len(nll)) + 512 if position is None else position, pa.int32()),
                    "context": pa.array(np.full(len(nll), 63) if context is None else context, pa.int32()),
                    "bytes": pa.array(np.full(len(nll), 3), pa.int32()),
                    "nll": pa.array(kept, pa.float32()),
                }
                assert made.path is not None
                pq.write_table(pa.table(columns), made.path.with_suffix(".parquet"))
        assert made.path is not None
        write_record(made.path, made)
        self.records.append(made)
        return made

    def row(
        self, changes: dict[int, tuple[float, float]], seeds: int = 1, level: float = 4.0, **values: Any
    ) -> list[Record]:
        """A model at 1x, and at each length its change: mean and spread between documents; every seed a little else."""
        made = []
        documents = values.get("documents", DOCUMENTS)
        for seed in range(seeds):
            control = hardness(seed, documents, level)
            if values.get("extension", "none") == "none":
                made.append(self.put(control, seed=seed, **values))
            for length, (mean, spread) in changes.items():
                difference = by_document(mean + 0.001 * (seed - (seeds - 1) / 2), spread, documents, length)
                made.append(self.put(control + difference, seed=seed, length=length, **values))
        return made

    def curve(self, nll: np.ndarray, length: int, windows: list[int], **values: Any) -> Record:
        """Whole windows of ``length``: ``windows`` says how many each document has; ``nll`` [sum(windows) · length]."""
        context = np.tile(np.arange(1, length + 1), sum(windows))
        documents = np.repeat(np.arange(len(windows)), np.array(windows) * length)
        own = {"protocol": "curve", "stride": None, "targets_sha256": f"{length:032x}" * 2, "length": length}
        return self.put(nll, documents=documents, context=context, **(own | values))
