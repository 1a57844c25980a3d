"""Schemes that change the logits or the weights by themselves, each beside loops over i and j or somebody else's code.

Queries, keys and values are drawn from a standard normal and multiplied by 2, so that logits reach 10; the loops run in
float64. A sum over up to 40 keys in float32 moves an output by about 1e-6; TOLERANCE leaves ten times that.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from x_transformers.x_transformers import CoPE

from helpers import CONTEXT, extensions, gap, make_model, make_scheme, random_tokens
from posx.attention import attend, plan
from posx.components import ExtensionSpec, check_fit
from posx.config import ModelConfig
from posx.errors import PosxError
from posx.extensions.base import NONE
from posx.schemes import linear_rope
from posx.schemes.base import Scheme

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
    flow = plan(scheme, torch.arange(k.shape[2]), NONE, len(q), q.shape[1], block)
    return attend(q, k, v, flow)


@pytest.mark.parametrize(("heads", "width"), SHAPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_stick_breaking_as_the_paper_writes_it(heads: int, width: int, length: int) -> None:
    q, k, v = drawn(heads, width, length)
    expected = torch.zeros(q.shape, dtype=torch.float64)
    for b, h, i in [(b, h, i) for b in range(2) for h in range(heads) for i in range(length)]:
        left = 1.0  # of the stick, once the keys between j and i have broken off theirs
        for j in range(i - 1, -1, -1):
            z = float(q[b, h, i].double() @ k[b, h, j].double()) / math.sqrt(width)
            share = 1 / (1 + math.exp(-z))
            expected[b, h, i] += share * left * v[b, h, j].double()
            left *= 1 - share
    scheme = scheme_of("stick-breaking", heads, width)
    for block in (None, 3):
        assert gap(ours(scheme, q, k, v, block), expected) < TOLERANCE
    if length > 3:
        assert gap(ours(scheme, q[:, :, -3:], k, v), expected[:, :, -3:]) < TOLERANCE


def test_the_first_token_attends_to_nothing_and_a_sharp_row_gives_all_away() -> None:
    scheme = scheme_of("stick-breaking", 1, 4)
    big = torch.full((1, 1, 3, 4), 20.0)
    out = ours(scheme, big, big, torch.arange(3.0)[:, None].expand(1, 1, 3, 4))
    assert torch.equal(out[0, 0, 0], torch.zeros(4))
    assert gap(out[0, 0, :, 0], torch.tensor([0.0, 0.0, 1.0])) < 1e-6  # the nearest key takes it all, never i itself


@pytest.mark.parametrize(("heads", "width"), SHAPES)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("p_max", [1, 4, 15, 60])
def test_cope_is_x_transformers(heads: int, width: int, length: int, p_max: int) -> None:
    """Its module holds p_max + 1 rows and is given logits that are scaled, and masked, as ours are."""
    q, k, v = drawn(heads, width, length)
    scheme = scheme_of("cope", heads, width, p_max=p_max)
    theirs = CoPE(width, heads, p_max + 1)
    theirs.pos_emb.data.copy_(scheme.table[0])
    future = torch.ones(length, length).triu_(1).bool()
    logits = (q @ k.mT / math.sqrt(width)).masked_fill(future, -torch.finfo(torch.float32).max)
    with torch.no_grad():
        logits = logits + theirs(q, logits)
    expected = torch.softmax(logits.masked_fill(future, -torch.inf), dim=-1) @ v
    for block in (None, 3):
        assert gap(ours(scheme, q, k, v, block), expected) < TOLERANCE


def test_cope_as_the_paper_writes_it() -> None:
    """The position of every key by a loop, in float64; the vector between two rows is their weighted mean."""
    heads, width, length, p_max = 3, 8, 23, 6
    q, k, v = drawn(heads, width, length)
    scheme = scheme_of("cope", heads, width, p_max=p_max)
    table = scheme.table[0].detach().double()
    expected = torch.zeros(q.shape, dtype=torch.float64)
    for b, h, i in [(b, h, i) for b in range(2) for h in range(heads) for i in range(length)]:
        z = [float(q[b, h, i].double() @ k[b, h, j].double()) / math.sqrt(width) for j in range(i + 1)]
        logits = []
        for j in range(i + 1):
            p = min(p_max, sum(1 / (1 + math.exp(-z[m])) for m in range(j, i + 1)))
            row = (math.floor(p) + 1 - p) * table[math.floor(p)] + (p - math.floor(p)) * table[math.ceil(p)]
            logits.append(z[j] + float(q[b, h, i].double() @ row))
        weights = torch.softmax(torch.tensor(logits, dtype=torch.float64), 0)
        expected[b, h, i] = weights @ v[b, h, : i + 1].double()
    assert gap(ours(scheme, q, k, v), expected) < TOLERANCE


def test_cope_starts_without_positions() -> None:
    nope, cope = (make_model(name, sharp=False) for name in ("nope", "cope"))
    tokens = random_tokens(CONTEXT)
    with torch.no_grad():
        assert gap(cope(tokens), nope(tokens)) < TOLERANCE
    assert make_scheme("cope", ModelConfig(), p_max=None).p_max == CONTEXT - 1
    with pytest.raises(PosxError, match="counts nothing"):
        make_scheme("cope", ModelConfig(), p_max=0)


def feature(x: Tensor) -> list[float]:
    """elu(x) + 1 in float64."""
    return [value + 1 if value > 0 else math.exp(value) for value in x.double().tolist()]


def turn(x: list[float], position: int) -> list[float]:
    """Rope in float64, half-split."""
    half = len(x) // 2
    out = [0.0] * len(x)
    for pair in range(half):
        angle = position * 10000 ** (-2 * pair / len(x))
        a, b = x[pair], x[pair + half]
        out[pair], out[pair + half] = (
            a * math.cos(angle) - b * math.sin(angle),
            b * math.cos(angle) + a * math.sin(angle),
        )
    return out


@pytest.mark.parametrize(("heads", "width"), SHAPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_linear_rope_as_the_paper_writes_it(
    heads: int, width: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equation 19. Outputs of size 1; relative to the largest, since weights may cancel."""
    q, k, v = drawn(heads, width, length)
    expected = torch.zeros(q.shape, dtype=torch.float64)
    for b, h, i in [(b, h, i) for b in range(2) for h in range(heads) for i in range(length)]:
        query, below = feature(q[b, h, i]), 0.0
        for j in range(i + 1):
            key = feature(k[b, h, j])
            weight = sum(x * y for x, y in zip(turn(query, i), turn(key, j), strict=True))
            below += sum(x * y for x, y in zip(query, key, strict=True))
            expected[b, h, i] += weight * v[b, h, j].double()
        expected[b, h, i] /= below
    scheme = scheme_of("linear-rope", heads, width)
    for chunk in (1, 7, 128):
        monkeypatch.setattr(linear_rope, "CHUNK", chunk)
        assert gap(ours(scheme, q, k, v), expected) < TOLERANCE
        for tail in {min(length, n) for n in (1, 3, 9)}:
            assert gap(ours(scheme, q[:, :, -tail:], k, v), expected[:, :, -tail:]) < TOLERANCE


def test_a_mask_does_not_fit_linear_attention() -> None:
    spec = ExtensionSpec("window", extensions()["window"], {"w": 5})
    with pytest.raises(PosxError, match="window changes the mask and does not fit linear-rope") as error:
        check_fit([spec], "linear-rope", make_scheme("linear-rope", ModelConfig()), extensions())
    assert "none, ntk and pi" in error.value.hint
