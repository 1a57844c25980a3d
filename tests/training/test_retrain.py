"""Tests of ``posx.training.retrain``."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch

from fixtures.models import posx
from fixtures.reproduced_runs import (
    SAME,
    cell,
    own,  # noqa: F401
    refused,
    runs,  # noqa: F401 - a fixture
    text,  # noqa: F401 - a fixture
    tree,
)

torch.set_num_threads(1)


def test_from_scratch_trains_the_chain_elsewhere(own: Path) -> None:
    """Without any weights left, of the fine-tune and of the run that it starts from."""
    one = cell(own, "tuned", extension="trained", length=48)
    for name in ("rope", "tuned"):
        shutil.rmtree(own / name / "checkpoints")
    said = refused("reproduce", one.key, "--runs-dir", own)
    assert "weights of tuned are missing" in said
    assert "--from-scratch" in said
    before = tree(own)
    result = posx("reproduce", one.key, "--from-scratch", "--runs-dir", own)
    last = result.stdout.splitlines()[-1]
    gap = float(re.fullmatch(r"The same: .* \(difference (.*)\)\.", last)[1])  # type: ignore[index]
    assert abs(gap) <= SAME
    assert tree(own) == before
