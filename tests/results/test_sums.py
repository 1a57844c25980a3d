"""Tests of ``posx.results.sums``."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from fixtures.cells import (
    DOCUMENTS,
    FEW,
    STATES,
    TARGETS,
    Shelf,
    losses,
    shelf,  # noqa: F401
    write_losses,
)
from posx.errors import PosxError
from posx.results.aggregate import aggregate


def test_another_number_of_losses_than_targets_is_refused(shelf: Shelf) -> None:
    before, after = shelf.put(losses()), shelf.put(losses(), length=128)
    write_losses(after.path.with_suffix(".parquet"), losses()[:-1], DOCUMENTS[:-1])  # type: ignore[union-attr]
    with pytest.raises(PosxError, match=rf"0002\.parquet has {TARGETS - 1} targets, but its record has {TARGETS}") as e:
        aggregate([before, after], FEW)
    assert e.value.hint


SHIFTED = DOCUMENTS + 1


MOVED = np.sort(np.where(np.arange(TARGETS) == 0, DOCUMENTS[-1], DOCUMENTS))  # one target more of the last document


@pytest.mark.parametrize("documents", [SHIFTED, MOVED], ids=["other documents", "other counts"])
def test_losses_of_other_documents_are_refused(shelf: Shelf, documents: np.ndarray) -> None:
    records = [shelf.put(losses()), shelf.put(losses(), documents, length=128)]
    with pytest.raises(PosxError, match="targets that do not match its hash") as caught:
        aggregate(records, FEW)
    assert caught.value.hint


@pytest.mark.parametrize("documents", [SHIFTED, MOVED, np.arange(TARGETS)], ids=["other", "counts", "more"])
def test_rows_of_other_documents_never_share_a_table(shelf: Shelf, documents: np.ndarray) -> None:
    """Each of the two rows agrees with itself, but they share a hash, and the draws of documents, with each other."""
    other = {"config_sha256": "55" * 32, "label": "alibi", "scheme": "alibi", "run": "alibi"}
    records = [
        shelf.put(losses()),
        shelf.put(losses() + STATES["undecided"], length=128),
        shelf.put(losses(), documents, **other),
        shelf.put(losses() + STATES["undecided"], documents, length=128, **other),
    ]
    with pytest.raises(PosxError, match="targets that do not match its hash"):
        aggregate(records, FEW)


@pytest.mark.parametrize("damage", ["garbage", "empty", "cut off", "a column is missing"])
def test_damaged_losses_are_a_sentence(shelf: Shelf, damage: str) -> None:
    before, after = shelf.put(losses()), shelf.put(losses(), length=128)
    path = after.path.with_suffix(".parquet")  # type: ignore[union-attr]
    if damage == "garbage":
        path.write_bytes(b"\x00\xff" * 500)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        pq.write_table(pq.read_table(path).drop_columns(["nll"]), path)
    with pytest.raises(PosxError, match=r"0002\.parquet is damaged") as caught:
        aggregate([before, after], FEW)
    assert caught.value.hint
