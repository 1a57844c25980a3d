"""What an evaluation kept of its targets: the NLL of each, read back from Parquet, and summed over documents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posx.errors import PosxError
from posx.records import Record

COLUMNS = ("document", "position", "context", "bytes", "nll")


@dataclass(frozen=True)
class Losses:
    """All int32 but ``nll``, float32 in nats; [targets], in the order of the text.

    ``document`` within the split, ``position`` within the document, ``context``: tokens that the model saw before it.
    """

    document: np.ndarray
    position: np.ndarray
    context: np.ndarray
    nll: np.ndarray


@dataclass(frozen=True)
class ByDocument:
    """[D]: documents that hold targets, ascending; their targets; their sum of nats, in float64."""

    documents: np.ndarray
    counts: np.ndarray
    nats: np.ndarray


def losses_path(record: Record) -> Path | None:
    """Where the targets of a record lie, or None where they were not copied along."""
    path = record.path.with_suffix(".parquet") if record.path else None
    return path if path is not None and path.is_file() else None


def read_losses(record: Record) -> Losses | None:
    """None where they are not beside the record. Raises PosxError where they are damaged."""
    path = losses_path(record)
    if path is None:
        return None
    try:
        table = pq.read_table(path, columns=["document", "position", "context", "nll"])
        found = Losses(*(table.column(name).to_numpy() for name in ("document", "position", "context", "nll")))
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise PosxError(f"{path} is damaged ({reason}).", "Delete it and evaluate the run again.") from None
    if len(found.nll) != record.n_targets:
        raise PosxError(
            f"{path} holds {len(found.nll)} targets, but its record {record.n_targets}.",
            "Delete both and evaluate the run again.",
        )
    return found


def by_document(losses: Losses) -> ByDocument:
    """Sums over the documents."""
    documents, where, counts = np.unique(losses.document, return_inverse=True, return_counts=True)
    nats = np.bincount(where, weights=losses.nll.astype(np.float64), minlength=len(documents))
    return ByDocument(documents, counts, nats)


def matrix(records: list[Record]) -> tuple[np.ndarray, np.ndarray] | None:
    """Counts [D] and sums of nats [records, D] of records over the same targets; None where any has no NLL kept."""
    rows = []
    for record in records:
        losses = read_losses(record)
        if losses is None:
            return None
        rows.append(by_document(losses))
    first = rows[0]
    for record, row in zip(records, rows, strict=True):
        if not (np.array_equal(row.documents, first.documents) and np.array_equal(row.counts, first.counts)):
            raise PosxError(
                f"{record.path} has other targets than its hash says.", "Delete it and evaluate the run again."
            )
    return first.counts, np.stack([row.nats for row in rows])
