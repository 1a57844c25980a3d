"""Schemes that change the logits or the weights by themselves: edges, and linear attention in chunks of every size.

Queries, keys and values are drawn from a standard normal and multiplied by 2, so that logits reach 10; the loops run in
float64. A sum over up to 40 keys in float32 moves an output by about 1e-6; TOLERANCE leaves ten times that.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import CONTEXT, extensions, gap, make_model, make_scheme, named, random_tokens
from posx.config.schema import ModelConfig
from posx.errors import PosxError
from posx.extensions.base import NONE
from posx.models.attention.context import Call
from posx.models.attention.dispatch import attend_rotated, plan
from posx.models.binding import check_fit
from posx.schemes import linear_rope
from posx.schemes.base import Scheme
from posx.verify.oracles import written

TOLERANCE = 2e-5
LENGTHS = (1, 5, CONTEXT, 40)  # below, at and beyond the training length
SHAPES = [(1, 4), (3, 8), (4, 16)]  # heads, and the width of one


def drawn(heads: int, width: int, length: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(heads * length)
    q, k, v = torch.randn(3, 2, heads, length, width, generator=draw)
    return [2 * q, 2 * k, v]


def scheme_of(name: str, heads: int, width: int, **settings: Any) -> Scheme:
    scheme = make_scheme(name, ModelConfig(d_model=heads * width, n_heads=heads), **settings)
    draw = torch.Generator().manual_seed(1)
    for parameter in scheme.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=draw))
    return scheme


@torch.no_grad()
def ours(scheme: Scheme, q: Tensor, k: Tensor, v: Tensor, block: int | None = None) -> Tensor:
    """Attention of layer 0, the queries being the last of the tokens."""
    flow = plan(scheme, torch.arange(k.shape[2]), NONE, Call(len(q), q.shape[1], block=block))
    return attend_rotated(q, k, v, flow)


def test_the_first_token_attends_to_nothing_and_a_sharp_row_gives_all_away() -> None:
    scheme = scheme_of("stick-breaking", 1, 4)
    big = torch.full((1, 1, 3, 4), 20.0)
    out = ours(scheme, big, big, torch.arange(3.0)[:, None].expand(1, 1, 3, 4))
    assert torch.equal(out[0, 0, 0], torch.zeros(4))
    assert gap(out[0, 0, :, 0], torch.tensor([0.0, 0.0, 1.0])) < 1e-6  # the nearest key takes it all, never i itself


def test_cope_starts_without_positions() -> None:
    nope, cope = (make_model(name, sharp=False) for name in ("nope", "cope"))
    tokens = random_tokens(CONTEXT)
    with torch.no_grad():
        assert gap(cope(tokens), nope(tokens)) < TOLERANCE
    assert make_scheme("cope", ModelConfig(), p_max=None).p_max == CONTEXT - 1
    with pytest.raises(PosxError, match="counts nothing"):
        make_scheme("cope", ModelConfig(), p_max=0)


@pytest.mark.parametrize(("heads", "width"), SHAPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_linear_rope_in_chunks_is_as_the_paper_writes_it(
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


def test_a_mask_does_not_fit_linear_attention() -> None:
    spec = named("window", w=5)
    with pytest.raises(PosxError, match="window changes the mask and does not fit linear-rope") as error:
        check_fit([spec], "linear-rope", make_scheme("linear-rope", ModelConfig()), extensions())
    assert "none, abf, by-parts, dynamic-ntk, llama3, ntk, pi and resonance" in error.value.hint
