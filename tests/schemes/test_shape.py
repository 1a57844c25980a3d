"""Tests of ``posx.schemes.shape``."""

from __future__ import annotations

import torch

from fixtures.models import CONTEXT, make_scheme
from posx.config.schema import ModelConfig


def test_shape_shifts_whole_sequences() -> None:
    """Of 8,000 shifts, each of 0 .. 9 occurs 800 times, with a standard deviation of 27."""
    scheme = make_scheme("shape", ModelConfig(), shift=9)
    positions = scheme.train_positions(8000, 6, torch.Generator().manual_seed(0))
    assert bool((positions.diff() == 1).all())
    counts = torch.bincount(positions[:, 0], minlength=10)
    assert len(counts) == 10
    assert bool(((counts - 800).abs() < 5 * 27).all())
    assert torch.equal(scheme.positions(6), torch.arange(6))
    learned = make_scheme("shape", ModelConfig(), shift=9, inner="learned")
    assert learned.last_position == CONTEXT + 9 - 1
