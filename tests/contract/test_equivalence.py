"""The same numbers from every backend, and for positions by sequence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fixtures.laws import ROUNDING, backends, both_families, cases, every_scheme, small_model
from fixtures.models import gap, random_tokens
from posx.errors import PosxError

pytestmark = pytest.mark.every_processor


@torch.no_grad()
@both_families
@every_scheme
def test_the_fused_backend_changes_no_number(name: str, family: str) -> None:
    """``backend`` selects how attention is computed: it raises an error or gives the same result."""
    model = small_model(name, family)
    for length, extension in cases(model, name):
        tokens = random_tokens(length)
        try:
            fused = model(tokens, extension=extension, backend="fused")
        except (PosxError, ValueError):
            continue
        whole = model(tokens, extension=extension, backend="dense")
        assert gap(fused, whole) < ROUNDING, (length, extension.resolved())


@torch.no_grad()
@every_scheme
@pytest.mark.parametrize(
    "positions",
    [torch.arange(29) + 7, 2 * torch.arange(29), torch.arange(29) + (torch.arange(29) > 11), torch.arange(29) / 2],
    ids=["later", "spread", "a gap", "halves"],
)
def test_the_fused_backend_supports_any_positions(name: str, positions: Tensor) -> None:
    model = small_model(name, "gpt")
    if model.scheme.last_position is not None:
        positions = positions[positions <= model.scheme.last_position]
    if positions.is_floating_point() and "learned" in name:
        positions = positions[positions == positions.floor()].long()
    tokens = random_tokens(len(positions))
    assert gap(model(tokens, positions, backend="fused"), model(tokens, positions, backend="dense")) < ROUNDING


@torch.no_grad()
@both_families
@every_scheme
def test_positions_by_sequence(name: str, family: str) -> None:
    """[B, T] with equal rows equals [T]; with different rows, each sequence equals the same sequence alone."""
    model = small_model(name, family)
    for length, extension in cases(model, name):
        tokens, positions = random_tokens(length, batch=3), torch.arange(length)
        expected = model(tokens, positions, extension=extension)
        rows = positions.expand(3, -1)
        for how in [*backends(model, extension), {"tail": 2}]:
            output = model(tokens, rows, extension=extension, **how)
            assert gap(output, expected[:, -output.shape[1] :]) < ROUNDING, how

    length = 7
    tokens = random_tokens(length, batch=3)
    spread = torch.stack([torch.arange(7), torch.arange(7) + 9, torch.tensor([0, 1, 3, 4, 8, 11, 15])])
    for how in [*backends(model, flex=True), {"tail": 2}]:
        together = model(tokens, spread, **how)
        for b in range(3):
            assert gap(together[b : b + 1], model(tokens[b : b + 1], spread[b], **how)) < ROUNDING, how
