"""The losses of an evaluation in Parquet: the NLL of each target, and sums by document.

KEY.parquet            a row per target: document, position, context, bytes, nll
KEY.documents.parquet  a row per document: document, targets, nats; small, and sufficient for intervals
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posx.errors import PosxError
from posx.results.bootstrap import FEWEST_DOCUMENTS, effective_number
from posx.results.bundle_cells import bundled_sums
from posx.results.records import Record
from posx.utils.files import whole_file

# Integers change little from row to row, and similar floats share their high bytes: half the size.
ENCODINGS = {
    **dict.fromkeys(("document", "position", "context", "bytes"), "DELTA_BINARY_PACKED"),
    "nll": "BYTE_STREAM_SPLIT",
}


@dataclass(frozen=True)
class Losses:
    """Arrays [targets] in the order of the text: int32, and ``nll`` float32 in nats.

    ``document`` within the split, ``position`` within the document, ``context``: the number of visible tokens before.
    """

    document: np.ndarray
    position: np.ndarray
    context: np.ndarray
    nll: np.ndarray


@dataclass(frozen=True)
class ByDocument:
    """Arrays [D]: documents with targets, ascending; their numbers of targets; their sums of nats, float64."""

    documents: np.ndarray
    counts: np.ndarray
    nats: np.ndarray


def write_losses(path: Path, document: np.ndarray, columns: dict[str, np.ndarray]) -> None:
    """Write both files of a cell: ``document`` [targets] and the other ``columns``, including ``nll``."""
    table = pa.table({"document": document.astype(np.int32), **columns})
    with whole_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=False, column_encoding=ENCODINGS)
    sums = sum_up(document, columns["nll"])
    with whole_file(documents_path(path)) as temporary:
        pq.write_table(pa.table({"document": sums.documents, "targets": sums.counts, "nats": sums.nats}), temporary)


def documents_path(path: Path) -> Path:
    """The path of the sums, next to the record or the losses of a cell."""
    return path.with_suffix(".documents.parquet")


def read_losses(record: Record) -> Losses | None:
    """The losses of a record, or None if they are missing. Raises PosxError if they are damaged."""
    path = record.path.with_suffix(".parquet") if record.path else None
    if path is None or not path.is_file():
        return None
    found = Losses(*_read(path, ["document", "position", "context", "nll"]))
    if len(found.nll) != record.n_targets:
        raise PosxError(
            f"{path} has {len(found.nll)} targets, but its record has {record.n_targets}.",
            "Delete both and evaluate the run again.",
        )
    return found


def _read(path: Path, columns: list[str]) -> list[np.ndarray]:
    try:
        # pq.read_table and to_numpy would import pandas, for longer than the reading takes.
        with pq.ParquetFile(path) as file:
            table = file.read(columns)
        return [np.from_dlpack(table.column(name).combine_chunks()) for name in columns]
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise PosxError(f"{path} is damaged ({reason}).", "Delete it and evaluate the run again.") from None


def sum_up(document: np.ndarray, nll: np.ndarray) -> ByDocument:
    """Sums by document, from the document [targets] and the NLL [targets] of each target."""
    documents, where, counts = np.unique(document, return_inverse=True, return_counts=True)
    nats = np.bincount(where, weights=nll.astype(np.float64), minlength=len(documents))
    return ByDocument(documents, counts, nats)


def by_document(record: Record) -> ByDocument | None:
    """The sums of a record, or None if neither they nor the losses are stored. Raises PosxError."""
    bundled = bundled_sums(record.path) if record.path else None
    if bundled is not None:
        return ByDocument(*bundled)
    path = documents_path(record.path) if record.path else None
    if path is None or not path.is_file():
        losses = read_losses(record)
        return None if losses is None else sum_up(losses.document, losses.nll)
    found = ByDocument(*_read(path, ["document", "targets", "nats"]))
    if found.counts.sum() != record.n_targets:
        raise PosxError(
            f"{path} has {found.counts.sum()} targets, but its record has {record.n_targets}.",
            "Delete both and evaluate the run again.",
        )
    return found


@dataclass(frozen=True)
class Sums:
    """Sums by document of records over the same targets: ``counts`` [D], and ``nats`` [D] by path of a record."""

    counts: np.ndarray
    nats: dict[Path, np.ndarray]

    def has(self, records: list[Record]) -> bool:
        """Whether the sums of all these records are stored."""
        return all(record.path in self.nats for record in records)

    def of(self, records: list[Record]) -> np.ndarray:
        """[records, D]."""
        return np.stack([self.nats[record.path] for record in records if record.path])

    @property
    def speaks_of_others(self) -> bool:
        """Whether the documents allow an interval: not if one document outweighs the others."""
        return len(self.counts) > 1 and effective_number(self.counts) >= FEWEST_DOCUMENTS


def sums_of(records: list[Record]) -> Sums:
    """The sums of the records that have them. Raises PosxError if their targets differ."""
    first: ByDocument | None = None
    nats: dict[Path, np.ndarray] = {}
    for record in records:
        if record.path is None or record.path in nats:
            continue
        row = by_document(record)
        if row is None:
            continue
        first = first or row
        if not (np.array_equal(row.documents, first.documents) and np.array_equal(row.counts, first.counts)):
            raise PosxError(
                f"{record.path} has targets that do not match its hash.", "Delete it and evaluate the run again."
            )
        if record.nats is not None and abs(row.nats.sum() - record.nats) > 1e-6 * abs(record.nats) + 1e-3:
            raise PosxError(
                f"The losses next to {record.path} sum to {row.nats.sum():.3f} nats, but its record has "
                f"{record.nats:.3f}.",
                "Delete both and evaluate the run again.",
            )
        nats[record.path] = row.nats
    return Sums(first.counts if first else np.zeros(0), nats)
