"""kerple, sandwich, fire, p-rope and xpos at their edges: odd positions, limits, initial and known values.

The formulas are those of ``written.py``; ``comparisons.py`` has the same schemes inside attention.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from helpers import CONTEXT, gap, make_model, make_scheme, random_tokens, rotated
from posx.config.schema import ModelConfig
from posx.errors import PosxError, Unsupported
from posx.extensions.base import NONE
from posx.models.attention.context import dense_addend
from posx.models.decoder import count_parameters
from posx.schemes.base import Scheme, Site
from posx.verify.oracles import written

HEADS = (1, 3, 4, 6)
LENGTHS = (1, 5, CONTEXT, 61)  # below, at and beyond the training length
NEW = ("fire", "kerple-log", "kerple-power", "p-rope", "sandwich", "xpos")
# Whole numbers are looked up in a table, others are not; fire asks for the position itself besides.
PLACES: dict[str, Callable[[int], Tensor]] = {
    "from 0": torch.arange,
    "from 7": lambda length: torch.arange(length) + 7,
    "halves": lambda length: torch.arange(length) / 2,
}


def everywhere(test: Any) -> Any:
    """For each number of heads, each length and each kind of positions."""
    test = pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)(test)
    return pytest.mark.parametrize("length", LENGTHS)(pytest.mark.parametrize("heads", HEADS)(test))


def scheme_of(name: str, heads: int, **settings: Any) -> Scheme:
    return make_scheme(name, ModelConfig(d_model=8 * heads, n_heads=heads), **settings)


def drawn(scheme: Scheme, seed: int) -> Scheme:
    """The scheme with parameters from a normal distribution: some lie beyond every limit."""
    draw = torch.Generator().manual_seed(seed)
    for parameter in scheme.parameters():
        nn.init.normal_(parameter, generator=draw)
    return scheme


def set_values(parameter: Tensor, values: list[float]) -> None:
    parameter.data.copy_(torch.tensor(values).view(parameter.shape))


def bias(scheme: Scheme, positions: Tensor, start: int = 0) -> Tensor:
    """[B, H, Tq, Tk] in float64, 0 over the future; of queries from ``start`` on."""
    site = Site(positions[..., start:], positions, start, scheme.prepare(positions, NONE))
    found = dense_addend(site, scheme.bias(site), [], scheme.shape.n_heads).double()
    assert (found == -math.inf).equal(torch.ones_like(found).triu_(1 + start).bool())
    return found.masked_fill(found == -math.inf, 0.0)


@torch.no_grad()
def assert_written(scheme: Scheme, positions: Tensor, formula: Callable[[int, float, float], float]) -> None:
    """``formula(h, i, j)`` for heads from 0 and every pair, to 1e-6 of the largest: eight roundings of float32."""
    at, length = positions.tolist(), len(positions)
    expected = torch.zeros(1, scheme.shape.n_heads, length, length, dtype=torch.float64)
    for h in range(scheme.shape.n_heads):
        for i in range(length):
            for j in range(i + 1):
                expected[0, h, i, j] = formula(h, at[i], at[j])
    tolerance = 1e-6 * max(1.0, float(expected.abs().max()))
    assert gap(bias(scheme, positions), expected) <= tolerance
    assert gap(bias(scheme, positions, length // 2), expected[:, :, length // 2 :]) <= tolerance


# ---------------------------------------------------------------- kerple

LIMITS = ([0.7, -3.0, 1.9, 0.001, 0.01, 1.0], [1.3, 0.4, -0.2, 2.7, 0.005, 2.0])


@everywhere
@pytest.mark.parametrize("values", [([], []), LIMITS], ids=["drawn", "limits"])
@pytest.mark.parametrize("kernel", ["log", "power"])
def test_kerple_as_the_paper_writes_it(heads: int, length: int, places: Any, values: Any, kernel: str) -> None:
    """The two kernels, and the limits of the released code: 0.01 at the least, a power of 2 at most."""
    scheme = drawn(scheme_of(f"kerple-{kernel}", heads), seed=heads)
    for parameter, value in zip((scheme.r1, scheme.r2), values, strict=True):
        set_values(parameter, value[:heads] or parameter.tolist())
    r1, r2 = scheme.r1.tolist(), scheme.r2.tolist()

    assert_written(scheme, places(length), lambda h, i, j: written.kerple(kernel, r1[h], r2[h], i - j))


@pytest.mark.parametrize(("r1", "r2"), [(0.7, 0.6), (-1.0, 0.6), (0.7, -1.0), (0.01, 0.01), (0.7, 3.0), (-2.0, 5.0)])
@pytest.mark.parametrize("kernel", ["log", "power"])
def test_the_gradient_passes_the_limits(kernel: str, r1: float, r2: float) -> None:
    """It is that at the limit, not 0: derivatives by hand, of a weighted sum of 36 biases in float32."""
    scheme = scheme_of(f"kerple-{kernel}", 1)
    set_values(scheme.r1, [r1])
    set_values(scheme.r2, [r2])
    a, b = max(r1, 0.01), min(max(r2, 0.01), math.inf if kernel == "log" else 2.0)
    weights = torch.rand(9, 9, generator=torch.Generator().manual_seed(0))
    (bias(scheme, torch.arange(9))[0, 0] * weights).sum().backward()
    by_r1 = by_r2 = 0.0
    for i in range(9):
        for j in range(i):  # at a distance of 0 both derivatives are 0
            d, w = i - j, float(weights[i, j])
            by_r1 -= w * (math.log(1 + b * d) if kernel == "log" else d**b)
            by_r2 -= w * a * (d / (1 + b * d) if kernel == "log" else d**b * math.log(d))
    assert (scheme.r1.grad.item(), scheme.r2.grad.item()) == pytest.approx((by_r1, by_r2), rel=1e-5)


def test_kerple_starts_where_its_authors_start() -> None:
    """Uniform from 0 up to 2 and 1 (log), 1 and 2 (power); of 300 numbers the largest is within 5 % of the end."""
    for name, ends in (("kerple-log", (2.0, 1.0)), ("kerple-power", (1.0, 2.0))):
        scheme = make_model(name, n_heads=300, d_model=600, n_layers=1, sharp=False).scheme
        for parameter, end in zip((scheme.r1.detach(), scheme.r2.detach()), ends, strict=True):
            assert 0 <= float(parameter.min()) < 0.05 * end
            assert 0.95 * end < float(parameter.max()) <= end
            assert float(parameter.mean()) == pytest.approx(end / 2, rel=0.15)


# ---------------------------------------------------------------- sandwich


@everywhere
@pytest.mark.parametrize("settings", [{"width": 128, "base": 10000.0}, {"width": 2}, {"width": 6, "base": 50.0}])
def test_sandwich_as_the_paper_writes_it(heads: int, length: int, places: Any, settings: dict[str, Any]) -> None:
    """The largest is the number of cosines, and most angles are far below the 61 that float32 has to 4e-6."""
    scheme = scheme_of("sandwich", heads, **settings)
    width, base = scheme.config.width, scheme.config.base
    assert_written(scheme, places(length), lambda h, i, j: written.sandwich(h, heads, i - j, width, base))


# ---------------------------------------------------------------- fire


@everywhere
@pytest.mark.parametrize(("c", "multiple", "end"), [(0.1, 1, 16), (-0.3, -0.25, 16), (2.0, 3, 16), (0.1, 1, 9.5)])
def test_fire_as_the_paper_writes_it(heads: int, length: int, places: Any, c: float, multiple: Any, end: Any) -> None:
    """T is 16, 4, 48 or 9.5: queries stand below, at and beyond it. c and T go in by absolute value."""
    scheme = drawn(scheme_of("fire", heads, hidden=5, threshold=None if end == CONTEXT else end), seed=heads)
    scheme.c.data.fill_(c)
    scheme.multiple.data.fill_(multiple)
    first, inner, outer = (p.tolist() for p in (scheme.first.weight, scheme.first.bias, scheme.second.weight))
    assert_written(
        scheme, places(length), lambda h, i, j: written.fire(i, j, c, multiple * end, first, inner, outer[h])
    )


# Hidden weights and biases: drawn, then slopes of 0, knees that coincide, at 0 and at 1, far off, or all on one side.
NETWORKS: list[tuple[list[float], list[float]] | None] = [
    None,
    ([0, 0, 0, 1], [0.5, -0.5, 0, -0.5]),
    ([1, 2, -1, -2], [-0.5, -1, 0.5, 1]),
    ([1, -1, 1, -1], [0, 0, -1, 1]),
    ([1e-20, -1e-20, 1e-30, 1e-12], [1, 1, -1, -1]),
    ([3, 0.1, 1e-20, 2], [9, 0.2, 1, 0.5]),
    ([1e-20, 1e-21, 1e-20, 1e-25], [1, 2, 3, 4]),
    ([1e-40, 50, -50, 49.9], [0.3, -25, 25, -25]),
]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("heads", HEADS)
def test_fires_lines_are_its_network(heads: int, network: Any) -> None:
    """Without gradients it is looked up between knees: beside the network in float64, at shares from 0 to 3 and 40.

    To 1e-6 of what the units of a head add up to, up to some roundings of 50 · share where slopes are steep. With
    gradients it is the network itself.
    """
    scheme = drawn(scheme_of("fire", heads, hidden=4), seed=heads)
    if network is not None:
        set_values(scheme.first.weight, network[0])
        set_values(scheme.first.bias, network[1])
    shares = torch.cat([torch.linspace(0, 3, 400), torch.tensor([0.5, 1.0, 1 / 3, 40.0])])
    scheme.share = lambda distance, query: shares.repeat(2, 1)
    a, b, w = (p.detach().double() for p in (scheme.first.weight[:, 0], scheme.first.bias, scheme.second.weight))
    given = (a[:, None] * shares.double() + b[:, None]).clamp(min=0)
    expected = (w @ given)[:, None].expand(-1, 2, -1)
    positions = torch.arange(len(shares))
    site = Site(positions[-2:], positions, shared=scheme.prepare(positions, NONE))
    indices = torch.tensor(0)[None, None, None], torch.arange(heads)[:, None, None], torch.arange(2)[:, None]
    with_network = scheme.bias(site)(*indices, positions)
    assert with_network.requires_grad
    with torch.no_grad():
        with_lines = scheme.bias(site)(*indices, positions)
    bound = 1e-6 * (w.abs() @ (a.abs()[:, None] * shares.double() + b.abs()[:, None]))[:, None]
    for found in (with_network, with_lines):
        assert bool(((found.double() - expected).abs() <= bound + 1e-12).all())


def test_fire_starts_as_it_says() -> None:
    """As torch's Linear, uniform to ±1/√(inputs), but for the hidden biases: from 0.1 to 1."""
    scheme = make_model("fire", sharp=False, hidden=200).scheme
    assert (scheme.c.item(), scheme.multiple.item()) == (pytest.approx(0.1), 1.0)
    assert scheme.threshold == CONTEXT
    assert make_scheme("fire", ModelConfig(), context=4096).threshold == 512
    first, second, outer = scheme.first, scheme.second, 200**-0.5
    for parameter, least, most in ((first.weight, -1, 1), (first.bias, 0.1, 1), (second.weight, -outer, outer)):
        found = parameter.detach() / most
        assert least / most <= found.min() < least / most + 0.1
        assert 0.9 < found.max() <= 1


# ---------------------------------------------------------------- p-rope, xpos


@pytest.mark.parametrize("kept", [0.1, 0.25, 0.5, 0.7, 0.75, 15 / 22, 0.999, 1.0])  # 15 / 22 · 22 < 15
@pytest.mark.parametrize("head_dim", [8, 16, 20, 44, 64])
def test_p_rope_has_transformers_frequencies(kept: float, head_dim: int) -> None:
    """How many pairs are kept too: theirs rounds down."""
    parameters = {"rope_type": "proportional", "rope_theta": 500.0, "partial_rotary_factor": kept}
    config = LlamaConfig(hidden_size=head_dim, num_attention_heads=1, rope_parameters=parameters)
    expected, _ = ROPE_INIT_FUNCTIONS["proportional"](config, device=torch.device("cpu"))
    ours = ModelConfig(d_model=head_dim, n_heads=1)
    if not expected.any():
        with pytest.raises(PosxError, match="leaves none to rotate"):
            make_scheme("p-rope", ours, kept=kept, base=500.0)
        return
    assert gap(make_scheme("p-rope", ours, kept=kept, base=500.0).frequencies(), expected) < 1e-7


@pytest.mark.parametrize("at", [range(5), range(CONTEXT), range(900, 961), range(0, 2000, 41)])
@pytest.mark.parametrize(("base", "scale_base"), [(10000.0, 512.0), (300.0, 100.0)])
@pytest.mark.parametrize("width", [2, 6, 64])
def test_xpos_scores_as_the_paper_writes_them(width: int, base: float, scale_base: float, at: range) -> None:
    """Positions count from 0 there and from the middle here, which no score can tell; ours are in halves."""
    scheme = make_scheme("xpos", ModelConfig(d_model=width, n_heads=1), base=base, scale_base=scale_base)
    q, k = torch.randn(2, len(at), width, generator=torch.Generator().manual_seed(width))
    there = [written.xpos(x, list(at), base, scale_base, sign) for x, sign in ((q, 1), (k, -1))]
    expected = (there[0] @ there[1].T).tril()
    # An angle or a power is off by some roundings of the largest position, and so is each product.
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
    with pytest.raises(Unsupported, match="leave float32 beyond 71168 tokens") as error:
        scheme.prepare(torch.arange(71170), NONE)
    assert "scheme.scale_base" in error.value.hint


def test_xpos_stays_in_range_at_64_times_its_context() -> None:
    """Counted from the middle of 16,384 tokens factors reach ζ_0^-16 = 5e8; from the first it would be 3e17."""
    scheme = make_scheme("xpos", ModelConfig(d_model=64, n_heads=1), context=256)
    *_, scale = scheme.prepare(torch.arange(16384), NONE)
    assert 4e8 < float(scale.max()) < 6e8


# ---------------------------------------------------------------- known values

FIRE = {"c": [1.0], "multiple": [1.0], "first.weight": [2.0], "first.bias": [-0.5], "second.weight": [3.0]}
KNOWN: list[tuple[str, int, dict[str, Any], dict[str, list[float]], dict[tuple[int, int, int], float]]] = [
    # −ln(9) / 2, −ln(3) / 2; −d² / 2; with a power of 1 ALiBi, and 257 is no number of bf16.
    ("kerple-log", 1, {}, {"r1": [0.5], "r2": [2.0]}, {(0, 4, 0): -1.0986123, (0, 9, 8): -0.5493061, (0, 3, 3): 0}),
    ("kerple-power", 1, {}, {"r1": [0.5], "r2": [2.0]}, {(0, 4, 0): -8, (0, 9, 6): -4.5, (0, 3, 3): 0}),
    ("kerple-power", 1, {}, {"r1": [0.5], "r2": [1.0]}, {(0, 4, 0): -2, (0, 257, 0): -128.5}),
    # cos(d / 10) + cos(d / 100); heads 1 and 4 of 4 divide it by 2 and by 8.
    ("sandwich", 4, {"width": 4, "base": 100.0}, {}, {(0, 10, 0): 0.7676532, (3, 10, 0): 0.1919133, (3, 9, 9): 0.25}),
    # 3 · relu(2 · share − 1/2), shares ln 4 / ln 8, below T = 3 ln 3 / ln 4, and 0.
    ("fire", 1, {"hidden": 1, "threshold": 3.0}, FIRE, {(0, 7, 4): 2.5, (0, 2, 0): 3.2548875, (0, 7, 7): 0}),
]


@torch.no_grad()
@pytest.mark.parametrize(("name", "heads", "settings", "values", "known"), KNOWN)
def test_known_biases(name: str, heads: int, settings: Any, values: Any, known: Any) -> None:
    """To 1e-5, of which fire's ε takes 5e-6."""
    scheme = scheme_of(name, heads, **settings)
    for parameter, value in values.items():
        set_values(scheme.get_parameter(parameter), value)
    found = bias(scheme, torch.arange(258))[0]
    assert {where: float(found[where]) for where in known} == pytest.approx(known, abs=1e-5)


def test_known_rotations() -> None:
    """p-rope: 10000^(−2k/8), half of them. xpos, θ = 1 and ζ = 2/7: cos(512) · 2/7, cos(1) · (2/7)^(1/512)."""
    scheme = make_scheme("p-rope", ModelConfig(d_model=8, n_heads=1), kept=0.5)
    assert scheme.frequencies().tolist() == pytest.approx([1.0, 0.1, 0.0, 0.0])
    one = torch.tensor([1.0, 0.0]).expand(1, 1, 513, 2)
    q, k = rotated(make_scheme("xpos", ModelConfig(d_model=2, n_heads=1)), one, one, torch.arange(513))
    assert (q @ k.mT)[0, 0, 512, [0, 511, 512]].tolist() == pytest.approx([-0.2848095, 0.5389819, 1.0], abs=1e-4)


# ---------------------------------------------------------------- all of them


@torch.no_grad()
@pytest.mark.parametrize("name", NEW)
def test_the_last_queries_of_a_long_input_in_bf16(name: str) -> None:
    """Finite at 16,384 keys, and few parameters: two numbers a head, or a network of 4 hidden units, c and T."""
    model = make_model(name, n_layers=1, d_model=16, n_heads=2)
    if name.startswith("kerple"):
        set_values(model.scheme.r2, [5.0, 1.0])  # a square of the distance: 2.7e8
    tokens = random_tokens(16384, batch=1)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(tokens, tail=64)
    assert bool(out.isfinite().all())
    # Beside float32: of values around 1, some roundings to bf16 (2^-9 each) in every product.
    assert gap(out, model(tokens, tail=64)) < 0.1
    own = {"fire": 2 * 4 + 4 * 2 + 2, "kerple-log": 4, "kerple-power": 4}
    assert count_parameters(model)["scheme"] == own.get(name, 0)


REFUSED = [
    ("kerple-log", {"kernel": "x"}, "log or power"),
    ("sandwich", {"width": 3}, "no even number"),
    ("sandwich", {"base": 1.0}, "must be above 1"),
    ("fire", {"hidden": 0}, "leaves no unit"),
    ("fire", {"threshold": -1.0}, "must be above 0"),
    ("fire", {"c": 0.0}, "must be above 0"),
    ("p-rope", {"kept": 0.0}, "leaves none"),
    ("p-rope", {"kept": 1.5}, "above 1"),
    ("forgetting", {"initial": math.nan}, "no number to start from"),
    ("xpos", {"scale_base": 0.0}, "must lie above 0.115"),
    ("xpos", {"scale_base": 0.115}, "16 tokens would leave float32"),
    ("xpos", {"base": 1.0}, "must be above 1"),
]


@pytest.mark.parametrize(("name", "settings", "said"), REFUSED)
def test_settings_without_a_meaning_are_refused(name: str, settings: dict[str, Any], said: str) -> None:
    good = scheme_of(name, 2)
    with pytest.raises(PosxError, match=said) as error:
        type(good).check(dataclasses.replace(good.config, **settings), good.shape)
    assert error.value.hint
