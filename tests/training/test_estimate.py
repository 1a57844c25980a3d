"""Tests of ``posx.training.estimate``."""

from __future__ import annotations

from pathlib import Path

import torch

from fixtures.commands import (
    text,  # noqa: F401 - a fixture
    there,  # noqa: F401
    tiny,  # noqa: F401
)
from fixtures.models import posx

torch.set_num_threads(1)


def test_an_estimate_writes_no_run(there: Path, tiny: list[str]) -> None:
    result = posx("train", *tiny, "--estimate", "train.steps=1000")
    assert list(there.iterdir()) == []
    for word in ("time", "memory", "epochs", "64,000"):
        assert word in result.stdout
    assert "Next:" in result.stdout + result.stderr


def test_too_little_memory_is_a_sentence(there: Path) -> None:
    """512 TB, which no machine has."""
    shown = posx("train", "--scheme", "cope", "scheme.p_max=1000000000000", "--estimate", code=2).stderr
    assert "Out of memory" in shown
    assert "Traceback" not in shown
