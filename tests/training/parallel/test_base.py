"""Tests of ``posx.training.parallel.base``."""

from __future__ import annotations

import numpy as np
import torch

from posx.training.parallel.base import Batch


def test_a_batch_is_cut_into_parts_that_keep_their_rows_together() -> None:
    rows = np.arange(10).reshape(5, 2)
    batch = Batch(rows, rows + 100, torch.from_numpy(rows + 200))
    parts = [batch[part] for part in batch.cut(3)]
    assert [len(part) for part in parts] == [1, 2, 2]
    assert np.array_equal(np.concatenate([part.tokens for part in parts]), rows)
    for part in parts:
        assert part.positions is not None
        assert np.array_equal(part.targets, part.tokens + 100)
        assert np.array_equal(part.positions.numpy(), part.tokens + 200)


def test_a_batch_without_positions_has_none_in_its_parts() -> None:
    rows = np.zeros((4, 2), np.int64)
    assert all(Batch(rows, rows, None)[part].positions is None for part in Batch(rows, rows, None).cut(2))
