"""kerple, sandwich and fire beside loops in float64, p-rope beside transformers, xpos beside the paper's formula.

The loops share no code with posx: the formulas are written out from the papers, a pair at a time.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from helpers import CONTEXT, gap, make_model, make_scheme, random_tokens, rotated
from posx.attention import dense_addend
from posx.config import ModelConfig
from posx.errors import PosxError
from posx.extensions.base import NONE
from posx.schemes.base import Scheme, Site

HEADS = (1, 3, 4, 6)
LENGTHS = (1, 5, CONTEXT, 61)  # below, at and beyond the training length
NEW = ("fire", "kerple-log", "kerple-power", "p-rope", "sandwich", "xpos")
by_heads = pytest.mark.parametrize("heads", HEADS)
by_length = pytest.mark.parametrize("length", LENGTHS)


def scheme_of(name: str, heads: int, **settings: Any) -> Scheme:
    return make_scheme(name, ModelConfig(d_model=8 * heads, n_heads=heads), **settings)


@torch.no_grad()
def bias(scheme: Scheme, length: int, start: int = 0) -> Tensor:
    """[H, Tq, Tk] in float64, 0 over the future; of queries from ``start`` on."""
    positions = torch.arange(length)
    site = Site(positions[start:], positions, start, scheme.prepare(positions, NONE))
    found = dense_addend(site, scheme.bias(site), [], scheme.shape.n_heads)[0].double()
    assert bool((found == -math.inf).equal(torch.ones_like(found).triu_(1 + start).bool()))
    return found.masked_fill(found == -math.inf, 0.0)


def assert_written(scheme: Scheme, length: int, formula: Any) -> None:
    """``formula(h, i, j)`` for every head from 1 and every pair; to 1e-6 of the largest, some roundings of float32."""
    expected = torch.zeros(scheme.shape.n_heads, length, length, dtype=torch.float64)
    for h in range(scheme.shape.n_heads):
        for i in range(length):
            for j in range(i + 1):
                expected[h, i, j] = formula(h + 1, i, j)
    tolerance = 1e-6 * max(1.0, float(expected.abs().max()))
    assert gap(bias(scheme, length), expected) <= tolerance
    assert gap(bias(scheme, length, length // 2), expected[:, length // 2 :]) <= tolerance


def set_values(parameter: Tensor, values: list[float]) -> list[float]:
    parameter.data.copy_(torch.tensor(values))
    return [float(value) for value in parameter.detach().double()]


# ---------------------------------------------------------------- kerple


@by_heads
@by_length
@pytest.mark.parametrize("kernel", ["log", "power"])
def test_kerple_as_the_paper_writes_it(heads: int, length: int, kernel: str) -> None:
    """Numbers below 0.01 act as 0.01, a power above 2 as 2."""
    scheme = scheme_of(f"kerple-{kernel}", heads)
    r1 = set_values(scheme.r1, [0.7, -3.0, 1.9, 0.001, 0.01, 1.0][:heads])
    r2 = set_values(scheme.r2, [1.3, 0.4, -0.2, 2.7, 0.005, 2.0][:heads])

    def formula(h: int, i: int, j: int) -> float:
        a, b = max(r1[h - 1], 0.01), max(r2[h - 1], 0.01)
        return -a * math.log(1 + b * (i - j)) if kernel == "log" else -a * (i - j) ** min(b, 2.0)

    assert_written(scheme, length, formula)


def test_known_values_of_kerple() -> None:
    log, power = scheme_of("kerple-log", 1), scheme_of("kerple-power", 1)
    for scheme in (log, power):
        set_values(scheme.r1, [0.5])
        set_values(scheme.r2, [2.0])
    assert bias(log, 5)[0, 4].tolist() == pytest.approx([-0.5 * math.log(n) for n in (9, 7, 5, 3, 1)], abs=1e-6)
    assert bias(power, 5)[0, 4].tolist() == [-8.0, -4.5, -2.0, -0.5, 0.0]
    set_values(power.r2, [1.0])
    assert bias(power, 5)[0, 4].tolist() == [-2.0, -1.5, -1.0, -0.5, 0.0]  # ALiBi


@pytest.mark.parametrize("name", ["kerple-log", "kerple-power"])
def test_a_number_at_its_limit_can_come_back(name: str) -> None:
    """The gradient is that at the limit, not 0: below it stands 0.01, and what moves it moves on."""
    found = []
    for value in (-1.0, 0.01):
        scheme = scheme_of(name, 1)
        set_values(scheme.r1, [value])
        set_values(scheme.r2, [0.5])
        positions = torch.arange(9)
        shared = scheme.prepare(positions, NONE)
        site = Site(positions, positions, shared=shared)
        scheme.bias(site)(
            *torch.zeros(2, 1, 1, 1).long(), torch.arange(9)[:, None], torch.zeros(1).long()
        ).sum().backward()
        found.append(float(scheme.r1.grad))
    assert found[0] == found[1] != 0


def test_kerple_starts_where_its_authors_start() -> None:
    """Uniform from 0 up to 2 and 1 (log), 1 and 2 (power); of 300 numbers the largest is within 5 % of the end."""
    for name, ends in (("kerple-log", (2.0, 1.0)), ("kerple-power", (1.0, 2.0))):
        scheme = make_model(name, n_heads=300, d_model=600, n_layers=1, sharp=False).scheme
        for parameter, end in zip((scheme.r1, scheme.r2), ends, strict=True):
            assert 0 <= float(parameter.min()) < 0.05 * end
            assert 0.95 * end < float(parameter.max()) <= end
            assert float(parameter.mean()) == pytest.approx(end / 2, rel=0.15)


# ---------------------------------------------------------------- sandwich


@by_heads
@by_length
@pytest.mark.parametrize("settings", [{"width": 128, "base": 10000.0}, {"width": 2}, {"width": 6, "base": 50.0}])
def test_sandwich_as_the_paper_writes_it(heads: int, length: int, settings: dict[str, Any]) -> None:
    """A sum of up to 64 cosines of angles up to 61, each off by 2^-18: to 64 · 2^-18 · heads / 8."""
    scheme = scheme_of("sandwich", heads, **settings)
    width, base = scheme.config.width, scheme.config.base

    def formula(h: int, i: int, j: int) -> float:
        return sum(math.cos((i - j) / base ** (2 * k / width)) for k in range(1, width // 2 + 1)) / (8 * h / heads)

    assert_written(scheme, length, formula)


def test_sandwich_is_the_product_of_sinusoidal_vectors() -> None:
    """PE(i)·PE(j) without its fastest pair and with one slower: the sum over k begins at 1."""
    scheme = scheme_of("sandwich", 8, width=16, base=10000.0)
    angles = torch.arange(40)[:, None] / 10000 ** (2 * torch.arange(1, 9).double() / 16)
    vectors = torch.cat([angles.sin(), angles.cos()], dim=1)
    assert gap(bias(scheme, 40)[0], (vectors @ vectors.T).tril()) < 1e-5  # head 1 of 8 divides by 8 · 1 / 8


# ---------------------------------------------------------------- fire


@by_heads
@by_length
@pytest.mark.parametrize(("c", "multiple"), [(0.1, 1.0), (-0.3, -0.25), (2.0, 3.0)])
def test_fire_as_the_paper_writes_it(heads: int, length: int, c: float, multiple: float) -> None:
    """T = 16 times the multiple: queries below, at and beyond it; c and T by absolute value."""
    scheme = scheme_of("fire", heads, hidden=5)
    draw = torch.Generator().manual_seed(heads)
    for parameter in scheme.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=draw))
    scheme.c.data.fill_(c)
    scheme.multiple.data.fill_(multiple)
    first, inner, outer = (p.tolist() for p in (scheme.first.weight, scheme.first.bias, scheme.second.weight))

    def formula(h: int, i: int, j: int) -> float:
        end = max(abs(multiple * 16), i)
        share = math.log(abs(c) * (i - j) + 1) / (math.log(abs(c) * end + 1) + 1e-6)
        return sum(w * max(0.0, a[0] * share + b) for w, a, b in zip(outer[h - 1], first, inner, strict=True))

    expected_share = float(scheme.share(torch.tensor(7), torch.tensor(61)))
    assert expected_share == pytest.approx(
        math.log(abs(c) * 7 + 1) / (math.log(abs(c) * max(61, abs(16 * multiple)) + 1) + 1e-6), rel=1e-5
    )
    # ψ near 0 loses some digits in float32, and weights of size 1 to 3 multiply it.
    whole = bias(scheme, length)
    for h in range(heads):
        for i in range(length):
            for j in range(i + 1):
                assert float(whole[h, i, j]) == pytest.approx(formula(h + 1, i, j), abs=2e-5)
    assert gap(bias(scheme, length, length // 2), whole[:, length // 2 :]) < 1e-6


def test_fire_starts_as_it_says() -> None:
    scheme = make_model("fire", sharp=False, hidden=200).scheme
    assert float(scheme.c) == pytest.approx(0.1)
    assert float(scheme.multiple) == 1.0
    assert scheme.threshold == CONTEXT
    assert make_scheme("fire", ModelConfig(), context=4096).threshold == 512
    assert -1 <= float(scheme.first.weight.min()) < -0.9
    assert 0.1 <= float(scheme.first.bias.min()) < 0.15
    assert 0.9 * 200**-0.5 < float(scheme.second.weight.max()) <= 200**-0.5
    assert sum(p.numel() for p in scheme.parameters()) == 2 * 200 + 200 * 3 + 2


# ---------------------------------------------------------------- p-rope, xpos


@pytest.mark.parametrize("kept", [0.1, 0.25, 0.5, 0.7, 0.75, 1.0])
@pytest.mark.parametrize("head_dim", [8, 16, 20, 64])
def test_p_rope_has_transformers_frequencies(kept: float, head_dim: int) -> None:
    parameters = {"rope_type": "proportional", "rope_theta": 500.0, "partial_rotary_factor": kept}
    config = LlamaConfig(hidden_size=head_dim, num_attention_heads=1, rope_parameters=parameters)
    expected, _ = ROPE_INIT_FUNCTIONS["proportional"](config, device=torch.device("cpu"))
    if not expected.any():
        with pytest.raises(PosxError, match="leaves none to rotate"):
            make_scheme("p-rope", ModelConfig(d_model=head_dim, n_heads=1), kept=kept, base=500.0)
        return
    scheme = make_scheme("p-rope", ModelConfig(d_model=head_dim, n_heads=1), kept=kept, base=500.0)
    assert gap(scheme.frequencies(), expected) < 1e-7


def test_p_rope_leaves_its_slow_pairs_alone() -> None:
    scheme = make_scheme("p-rope", ModelConfig(d_model=16, n_heads=1), kept=0.5)
    q = torch.randn(1, 1, 30, 16, generator=torch.Generator().manual_seed(0))
    turned, _ = rotated(scheme, q, q, torch.arange(30))
    slow = [4, 5, 6, 7, 12, 13, 14, 15]
    assert torch.equal(turned[..., slow], q[..., slow])
    fast = make_scheme("rope", ModelConfig(d_model=16, n_heads=1))
    whole, _ = rotated(fast, q, q, torch.arange(30))
    assert torch.equal(turned[..., [0, 1, 2, 3, 8, 9, 10, 11]], whole[..., [0, 1, 2, 3, 8, 9, 10, 11]])


@pytest.mark.parametrize("width", [2, 8, 64])
@pytest.mark.parametrize("first", [0, 900])
def test_xpos_scores_as_the_paper_writes_them(width: int, first: int) -> None:
    """Equation 12, pairs interleaved, in float64: Re Σ_k q_k conj(k_k) e^(i(n−m)θ_k) ζ_k^((n−m)/512)."""
    scheme = make_scheme("xpos", ModelConfig(d_model=width, n_heads=1), context=64)
    length = 64
    draw = torch.Generator().manual_seed(width)
    q, k = torch.randn(2, 1, 1, length, width, generator=draw)
    halves = [*range(0, width, 2), *range(1, width, 2)]  # the interleaved layout in halves
    ours_q, ours_k = rotated(scheme, q[..., halves], k[..., halves], torch.arange(length) + first)
    found = (ours_q.double() @ ours_k.double().mT)[0, 0]
    for n in range(0, length, 7):
        for m in range(n + 1):
            score = 0.0
            for pair in range(width // 2):
                theta, zeta = 10000 ** (-2 * pair / width), (2 * pair + 0.4 * width) / (1.4 * width)
                a = complex(*q[0, 0, n, 2 * pair : 2 * pair + 2].double().tolist())
                b = complex(*k[0, 0, m, 2 * pair : 2 * pair + 2].double().tolist())
                angle = (n - m) * theta
                turn = complex(math.cos(angle), math.sin(angle))
                score += (a * b.conjugate() * turn).real * zeta ** ((n - m) / 512)
            # Angles up to 964 are off by 2^-14 in float32; scores are sums of up to 32 products.
            assert float(found[n, m]) == pytest.approx(score, abs=(first + 64) * width * 2**-22)


def test_xpos_stays_in_range_at_64_times_its_context() -> None:
    """Counted from the middle of 16,384 tokens, factors stay below 1e9, and a product of two exact to float32."""
    scheme = make_scheme("xpos", ModelConfig(d_model=64, n_heads=1), context=256)
    *_, scale = scheme.prepare(torch.arange(16384), NONE)
    assert float(scale.max()) < 1e9
    near = scale[1:] / scale[:-1]
    zeta = (torch.arange(0, 64, 2) + 25.6) / 89.6
    assert gap(near, (zeta ** (1 / 512)).expand_as(near)) < 1e-4


# ---------------------------------------------------------------- all of them


@torch.no_grad()
@pytest.mark.parametrize("name", NEW)
def test_the_last_queries_of_a_long_input_are_finite_in_bf16(name: str) -> None:
    model = make_model(name, n_layers=1, d_model=16, n_heads=2)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(random_tokens(16384, batch=1), tail=64)
    assert bool(out.isfinite().all())
    assert float(out.std()) > 0.1


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("kerple-log", {"kernel": "exp"}, "log or power"),
        ("sandwich", {"width": 3}, "no even number"),
        ("sandwich", {"width": 0}, "no even number"),
        ("sandwich", {"base": 1.0}, "must be above 1"),
        ("fire", {"hidden": 0}, "leaves no unit"),
        ("fire", {"threshold": -1.0}, "must be above 0"),
        ("fire", {"c": 0.0}, "must be above 0"),
        ("p-rope", {"kept": 0.0}, "leaves none"),
        ("p-rope", {"kept": 1.5}, "above 1"),
        ("xpos", {"scale_base": 0.0}, "must be above 0"),
        ("xpos", {"base": 1.0}, "must be above 1"),
    ],
)
def test_settings_without_a_meaning_are_refused(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(PosxError, match=said) as error:
        scheme_of(name, 2, **settings)
    assert error.value.hint
