"""Tests of ``posx.training.loop``: threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fixtures.trainings import (
    session_of,
    text,  # noqa: F401
)
from posx.training.loop import train_step
from posx.training.state import Session


@pytest.fixture(autouse=True)
def threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def after(session: Session, steps: int) -> dict[str, torch.Tensor]:
    for step in range(steps):
        train_step(session, step)
    return {name: p.detach().clone() for name, p in session.model.named_parameters()}


@pytest.mark.parametrize("scheme", ["t5", "learned"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_training_in_pieces(text: Path, scheme: str, accumulation: int) -> None:
    """Fourteen windows on two and on three threads: the steps of one thread, and bit for bit the same a second time."""
    own = ["scheme.buckets=8"] if scheme == "t5" else []
    size = [f"scheme={scheme}", *own, f"train.batch_tokens={14 * 16}", f"train.accumulation={accumulation}"]
    trained = {
        (threads, time): after(session_of(text, *size, f"train.threads={threads}"), 4)
        for threads, time in ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1))
    }
    start = after(session_of(text, *size), 0)
    for threads in (2, 3):
        for name, value in trained[threads, 0].items():
            assert torch.equal(value, trained[threads, 1][name]), name
            moved = float((value - start[name]).abs().max())
            assert moved > 1e-4
            assert float((value - trained[1, 0][name]).abs().max()) <= 0.02 * moved, name


def test_a_compiled_or_large_model_is_trained_whole(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(text, "train.threads=2")
    assert session.pieces(4) == 2
    assert session.pieces(1) == 1
    session.compiled = True
    assert session.pieces(4) == 1
    session.compiled = False
    monkeypatch.setattr("posx.training.state.MOST_SHARED", 10)
    assert session.pieces(4) == 1
