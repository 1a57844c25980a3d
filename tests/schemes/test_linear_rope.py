"""Tests of ``posx.schemes.linear_rope``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fixtures.logit_schemes import TOLERANCE, ours, scheme_of
from fixtures.models import CONTEXT, gap
from posx.schemes import linear_rope
from posx.verify.oracles import papers as written

LENGTHS = (1, 5, CONTEXT, 40)  # below, at and beyond the training length


SHAPES = [(1, 4), (3, 8), (4, 16)]  # heads, head dimension


def drawn(heads: int, width: int, length: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(heads * length)
    q, k, v = torch.randn(3, 2, heads, length, width, generator=draw)
    return [2 * q, 2 * k, v]


@pytest.mark.parametrize(("heads", "width"), SHAPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_linear_rope_in_chunks_matches_the_paper(
    heads: int, width: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equation 19. Outputs of size 1; relative to the largest, since weights may cancel."""
    q, k, v = drawn(heads, width, length)
    expected = written.linear_rope(q, k, v)
    scheme = scheme_of("linear-rope", heads, width)
    for chunk in (1, 7, 128):
        monkeypatch.setattr(linear_rope, "CHUNK", chunk)
        assert gap(ours(scheme, q, k, v), expected) < TOLERANCE
        for tail in {min(length, n) for n in (1, 3, 9)}:
            assert gap(ours(scheme, q[:, :, -tail:], k, v), expected[:, :, -tail:]) < TOLERANCE
