"""Tests of ``posx.training.state``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures.trainings import (
    session_of,
    text,  # noqa: F401
)
from posx.training.loop import train_step


def test_schemes_see_the_same_batches_from_the_same_start(text: Path) -> None:
    names = ["rope", "learned", "alibi", "nope", "t5"]
    settings = {"t5": ["scheme.buckets=8"]}
    sessions = {name: session_of(text, f"scheme={name}", *settings.get(name, [])) for name in names}
    begins = {n: {k: p.detach().clone() for k, p in s.model.named_parameters()} for n, s in sessions.items()}
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    for name, session in sessions.items():
        tokens = seen[name]
        hook = session.model.tokens.register_forward_pre_hook(lambda _, given, to=tokens: to.append(given[0].clone()))
        for step in range(4):
            train_step(session, step)
        hook.remove()
    shared = {k for k in begins["rope"] if not k.startswith("scheme.")}
    assert len(shared) > 10
    assert len(seen["rope"]) >= 4
    for name in names[1:]:
        assert {k for k in begins[name] if not k.startswith("scheme.")} == shared
        assert all(torch.equal(begins[name][k], begins["rope"][k]) for k in shared)
        assert all(torch.equal(a, b) for a, b in zip(seen[name], seen["rope"], strict=True))
    other = session_of(text, "scheme=rope", "train.seed=1")
    assert not any(torch.equal(p, begins["rope"][k]) for k, p in other.model.named_parameters() if p.ndim == 2)
    assert not np.array_equal(other.slices.batch(1, 0, 8)[0], seen["rope"][0].numpy())


@pytest.mark.parametrize("scheme, settings", [("learned", []), ("t5", ["scheme.buckets=8"]), ("rope", [])])
def test_weight_decay_spares_norms_and_schemes(text: Path, scheme: str, settings: list[str]) -> None:
    """With a gradient of zero AdamW moves nothing but what it decays."""
    session = session_of(text, f"scheme={scheme}", *settings, "optim.weight_decay=0.5", "optim.lr=0.1")
    before = {name: p.detach().clone() for name, p in session.model.named_parameters()}
    for parameter in session.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    session.optimizer.step()
    for name, parameter in session.model.named_parameters():
        spared = name.startswith("scheme.") or "norm" in name
        factor = 1.0 if spared else 1 - 0.1 * 0.5
        assert torch.allclose(parameter, before[name] * factor, rtol=1e-6, atol=0), name
