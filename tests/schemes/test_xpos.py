"""Tests of ``posx.schemes.xpos``."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import CONTEXT, make_scheme
from posx.config.schema import ModelConfig
from posx.errors import Unsupported
from posx.extensions.base import NONE
from posx.schemes.base import Site
from posx.verify.oracles import papers as written


@pytest.mark.parametrize("at", [range(5), range(CONTEXT), range(900, 961), range(0, 2000, 41)])
@pytest.mark.parametrize(("base", "scale_base"), [(10000.0, 512.0), (300.0, 100.0)])
@pytest.mark.parametrize("width", [2, 6, 64])
def test_scores_match_the_paper(width: int, base: float, scale_base: float, at: range) -> None:
    """The paper counts from 0, posx from the middle, with the same scores; posx uses the half-split layout."""
    scheme = make_scheme("xpos", ModelConfig(d_model=width, n_heads=1), base=base, scale_base=scale_base)
    q, k = torch.randn(2, len(at), width, generator=torch.Generator().manual_seed(width))
    there = [written.xpos(x, list(at), base, scale_base, sign) for x, sign in ((q, 1), (k, -1))]
    expected = (there[0] @ there[1].T).tril()
    # The error of angles, powers and products is some roundings of the largest position.
    bound = (at[-1] + 8) * 2**-22 * (q.abs() @ k.abs().T).double()
    halves, positions = [*range(0, width, 2), *range(1, width, 2)], torch.tensor(at)
    shared = scheme.prepare(positions, NONE)
    for start in (0, len(at) // 2):
        site = Site(positions[start:], positions, start, shared)
        ours_q, ours_k = scheme.rotate(q[None, None, start:, halves], k[None, None, :, halves], site)
        found = (ours_q.double() @ ours_k.double().mT)[0, 0].tril(start)
        assert bool(((found - expected[start:]).abs() <= bound[start:]).all())


def test_xpos_refuses_lengths_at_which_its_factors_leave_float32() -> None:
    """71,168 tokens are 139 times 512: finite up to there, on both sides of the middle."""
    scheme = make_scheme("xpos", ModelConfig(d_model=64, n_heads=1))
    *_, scale = scheme.prepare(torch.arange(71169), NONE)
    assert bool(scale.isfinite().all())
    assert bool((1 / scale).isfinite().all())
    with pytest.raises(Unsupported, match="overflow float32 beyond 71168 tokens") as error:
        scheme.prepare(torch.arange(71170), NONE)
    assert "scheme.scale_base" in error.value.hint


def test_xpos_stays_in_range_at_64_times_its_context() -> None:
    """Counted from the middle of 16,384 tokens, factors reach ζ_0^-16 = 5e8; from the first token, 3e17."""
    scheme = make_scheme("xpos", ModelConfig(d_model=64, n_heads=1), context=256)
    *_, scale = scheme.prepare(torch.arange(16384), NONE)
    assert 4e8 < float(scale.max()) < 6e8
