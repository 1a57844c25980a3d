"""Every extension beside an implementation that this project did not write, or its formula in plain loops.

TOLERANCE is for whole models in float32 with logits of about 10, see test_schemes.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5Attention
from x_transformers.x_transformers import RotaryEmbedding

from helpers import CONTEXT, MASKABLE, SCHEMES, extend, extensions, gap, make_model, make_scheme, needed, random_tokens
from posx.config.schema import ModelConfig
from posx.extensions.abf import ABF
from posx.extensions.base import NONE, Applied, Extension, Target
from posx.extensions.by_parts import ByParts, ByPartsConfig
from posx.extensions.dynamic_ntk import DynamicNTK, DynamicNTKConfig
from posx.extensions.interpolate import Interpolate, InterpolateConfig
from posx.extensions.llama3 import Llama3
from posx.extensions.log_n import LogN, LogNConfig
from posx.extensions.longrope import LongRope
from posx.extensions.ntk import NTK
from posx.extensions.pi import PI, ScaledConfig
from posx.extensions.resonance import Resonance
from posx.extensions.window import Window, WindowConfig
from posx.extensions.yarn import Yarn
from posx.models.attention.context import Call
from posx.models.attention.dispatch import attend_rotated, plan
from posx.models.binding import fits
from posx.models.decoder import Decoder
from posx.schemes.base import Scheme
from posx.verify.oracles import hosts

TOLERANCE = 2e-5
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0}
LONG = 4 * CONTEXT


def together(parts: Iterable[Extension], target: Target) -> Applied:
    """These extensions in this order; ``bind`` would sort them."""
    return Applied(tuple(parts), target)


@torch.no_grad()
def assert_same(model: Decoder, extension: Applied, host: nn.Module, length: int, **instead: Tensor) -> None:
    tokens = random_tokens(length)
    hidden = model(tokens, extension=extension)
    logits, last = hosts.run(host, **(instead if "embeds" in instead else {"tokens": tokens, **instead}))
    assert gap(hidden, last) < TOLERANCE
    assert gap(model.logits(hidden), logits) < TOLERANCE


# ---------------------------------------------------------------- pi


@pytest.mark.parametrize("length", [CONTEXT + 1, 40, LONG])
def test_pi_is_linear_rope_of_llama(length: int) -> None:
    model = make_model("rope", family="llama", n_heads=4, n_kv_heads=2, head_dim=16)
    host = hosts.llama(model, {**LINEAR, "factor": length / CONTEXT})
    assert_same(model, extend(model, length, pi={}), host, length)


@pytest.mark.parametrize("scheme, fraction", [("rope", 1.0), ("partial-rope", 0.25), ("partial-rope", 0.5)])
def test_pi_is_linear_rope_of_neox(scheme: str, fraction: float) -> None:
    model = make_model(scheme, fraction=fraction)
    host = hosts.neox(model, {**LINEAR, "factor": 4.0, "partial_rotary_factor": fraction})
    assert_same(model, extend(model, LONG, pi={}), host, LONG)


@pytest.mark.parametrize("length", [7, CONTEXT, LONG])
@pytest.mark.parametrize("s", [1.0, 2.5, 8.0])
def test_pi_with_a_fixed_scale(length: int, s: float) -> None:
    """Fixed, s acts at every length, short ones too."""
    model = make_model("rope", family="llama")
    extension = extend(model, length, pi={"s": s})
    assert extension.resolved() == {"pi": {"s": s}}
    assert_same(model, extension, hosts.llama(model, {**LINEAR, "factor": s}), length)


@torch.no_grad()
def test_pi_is_dividing_positions() -> None:
    """θ/s at p and θ at p/s; s is a power of two, so that both are exact."""
    model = make_model("rope")
    tokens, positions = random_tokens(LONG), torch.arange(LONG)
    divided = model(tokens, positions / 4)
    assert torch.equal(model(tokens, extension=extend(model, LONG, pi={})), divided)


# ---------------------------------------------------------------- ntk


@pytest.mark.parametrize("rotated", [4, 6, 16, 64, 128])
@pytest.mark.parametrize("s", [1.0, 2.0, 3.7, 32.0])
def test_ntk_frequencies_are_those_of_x_transformers(rotated: int, s: float) -> None:
    """They raise the base, we scale each frequency: equal to a few roundings of a power, relative."""
    scheme = make_scheme("rope", ModelConfig(d_model=rotated, n_heads=1))
    ours = NTK(ScaledConfig(s=s)).spectrum(scheme.frequencies(), Target(CONTEXT, LONG))
    theirs = RotaryEmbedding(rotated, base_rescale_factor=s).inv_freq
    assert gap(ours / theirs, torch.ones(rotated // 2)) < 3e-6
    # The highest stays, the lowest is divided by s.
    assert ours[0] == 1
    assert abs(float(ours[-1] * s / scheme.frequencies()[-1]) - 1) < 1e-6


@pytest.mark.parametrize("length, given, acts", [(LONG, None, 4.0), (40, None, 2.5), (9, 8.0, 8.0), (LONG, 8.0, 8.0)])
def test_ntk_in_llama(length: int, given: float | None, acts: float) -> None:
    """Llama whose frequencies are those that x-transformers makes for this scale."""
    model = make_model("rope", family="llama", n_kv_heads=1)
    host = hosts.llama(model, ROPE)
    host.model.rotary_emb.inv_freq.copy_(RotaryEmbedding(16, base_rescale_factor=acts).inv_freq)
    assert_same(model, extend(model, length, ntk={"s": given}), host, length)


@torch.no_grad()
def test_ntk_keeps_a_single_pair() -> None:
    """With two rotated dimensions the only frequency is the highest; the exponent would divide by zero."""
    model = make_model("rope", n_heads=24)
    tokens = random_tokens(LONG)
    assert torch.equal(model(tokens, extension=extend(model, LONG, ntk={"s": 4.0})), model(tokens))


# ---------------------------------------------------------------- interpolate


def stretched(table: Tensor, length: int) -> Tensor:
    """A table [L, C] as [length, C], by torch."""
    return F.interpolate(table.T[None], size=length, mode="linear", align_corners=True)[0].T


@pytest.mark.parametrize("length", [CONTEXT + 1, 40, LONG, 1000])
def test_interpolated_rows_are_those_of_torch(length: int) -> None:
    """Between rows of size 1, a share p·(L−1)/(ℓ−1) of up to 16 rounds at 2^-20; rows differ by up to 6."""
    config = ModelConfig(d_model=24, n_heads=1)
    scheme = make_scheme("learned", config)
    nn.init.normal_(scheme.table, generator=torch.Generator().manual_seed(0))
    target = Target(CONTEXT, length, last_position=scheme.last_position)
    positions = Interpolate(InterpolateConfig()).positions(torch.arange(length), target)
    ours = scheme.vectors(positions)
    assert gap(ours, stretched(scheme.table, length)) < 6 * 2**-19
    assert torch.equal(ours[0], scheme.table[0])
    assert gap(ours[-1], scheme.table[-1]) < 6 * 2**-19


@pytest.mark.parametrize("length", [CONTEXT + 1, LONG])
@pytest.mark.parametrize("shape", [{"n_heads": 3}, {"n_heads": 4, "tie_embeddings": False}])
def test_interpolate_is_gpt2_with_a_stretched_table(length: int, shape: dict[str, Any]) -> None:
    model = make_model("learned", **shape)
    host = hosts.gpt2(model, stretched(model.scheme.table.detach(), length))
    assert_same(model, extend(model, length, interpolate={}), host, length)


def test_interpolate_concatenated_rows() -> None:
    model = make_model("learned-concat", family="llama")
    table = stretched(model.scheme.table.detach(), LONG)
    embeds = torch.cat([model.tokens.weight[random_tokens(LONG)], table.expand(2, -1, -1)], dim=-1)
    assert_same(model, extend(model, LONG, interpolate={}), hosts.smollm3(model), LONG, embeds=embeds)


@pytest.mark.parametrize("length", [CONTEXT, CONTEXT + 1, 40, LONG])
@pytest.mark.parametrize("family", ["gpt", "llama"])
def test_interpolated_sinusoids(length: int, family: str) -> None:
    """PE(p/s) in float64, with s = ℓ/L, as the input of a host without positions."""
    model = make_model("sinusoidal", family=family)
    width, s = model.config.d_model, max(1.0, length / CONTEXT)
    table = torch.zeros(length, width, dtype=torch.float64)
    for p in range(length):
        for k in range(width // 2):
            angle = p / s * 10000.0 ** (-2 * k / width)
            table[p, 2 * k], table[p, 2 * k + 1] = math.sin(angle), math.cos(angle)
    embeds = model.tokens.weight[random_tokens(length)] * width**0.5 + table.float()
    host = hosts.gpt2(model) if family == "gpt" else hosts.smollm3(model)
    assert_same(model, extend(model, length, interpolate={}), host, length, embeds=embeds)


# ---------------------------------------------------------------- window


def brute_force(q: Tensor, k: Tensor, v: Tensor, w: int, bias: Any) -> Tensor:
    """Attention of one sequence over the last w keys, in float64 and plain loops; bias(h, d)."""
    n_heads, length, width = q.shape
    out = torch.zeros(n_heads, length, width, dtype=torch.float64)
    for h, i in itertools.product(range(n_heads), range(length)):
        seen = [j for j in range(length) if j <= i and i - j < w]
        assert len(seen) == min(i + 1, w)
        logits = []
        for j in seen:
            product = sum(float(q[h, i, d]) * float(k[h, j, d]) for d in range(width))
            logits.append(product / math.sqrt(width) + bias(h, i - j))
        top = max(logits)
        weights = [math.exp(x - top) for x in logits]
        for j, weight in zip(seen, weights, strict=True):
            out[h, i] += weight / sum(weights) * v[h, j].double()
    return out


@pytest.mark.parametrize("how", [{}, {"backend": "dense"}, {"block": 1}, {"block": 3}])
@pytest.mark.parametrize("w", [1, 2, 5, 11, 40])
@pytest.mark.parametrize("name", ["nope", "alibi", "t5"])
def test_window_is_its_brute_force(name: str, w: int, how: dict[str, Any]) -> None:
    """Logits of about 3 in float32 against float64: 1e-6 would do."""
    n_heads, length, width = 3, 11, 4
    config = ModelConfig(d_model=n_heads * width, n_heads=n_heads)
    scheme = make_scheme(name, config)
    draw = torch.Generator().manual_seed(2)
    q, k, v = (1.5 * torch.randn(1, n_heads, length, width, generator=draw) for _ in range(3))

    def bias(h: int, d: int) -> float:
        if name == "alibi":
            return -d * [2**-4, 2**-8, 2**-2][h]  # two heads' slopes, then the first of four
        if name == "t5":
            index = T5Attention._relative_position_bucket(
                torch.tensor(-d), bidirectional=False, num_buckets=8, max_distance=CONTEXT
            )
            return float(scheme.table.detach()[h, index])
        return 0.0

    if name == "t5":
        nn.init.normal_(scheme.table, generator=draw)
    extension = together([Window(WindowConfig(w=w))], Target(CONTEXT, length))
    flow = plan(scheme, torch.arange(length), extension, Call(1, n_heads, **how))
    assert gap(attend_rotated(q, k, v, flow)[0], brute_force(q[0], k[0], v[0], w, bias)) < 3e-6


def outside(length: int, w: int) -> Tensor:
    """−inf where a key lies more than w − 1 tokens back, else 0; [T, T], by loops."""
    addend = torch.zeros(length, length)
    for i, j in itertools.product(range(length), repeat=2):
        if j < i - (w - 1):
            addend[i, j] = -math.inf
    return addend


@pytest.mark.parametrize("w", [1, 2, 5, CONTEXT, LONG, None])
@pytest.mark.parametrize("scheme", ["nope", "t5"])
def test_window_in_gpt2(scheme: str, w: int | None) -> None:
    """None means w = L."""
    model = make_model(scheme)
    addend = outside(LONG, w or CONTEXT)
    if scheme == "t5":
        distance = torch.arange(LONG)[:, None] - torch.arange(LONG)
        index = T5Attention._relative_position_bucket(
            -distance, bidirectional=False, num_buckets=8, max_distance=CONTEXT
        )
        addend = addend + model.scheme.table.detach()[:, index]
    extension = extend(model, LONG, window={"w": w})
    assert extension.resolved() == {"window": {"w": w or CONTEXT}}
    assert_same(model, extension, hosts.gpt2(model), LONG, addend=addend)


@pytest.mark.parametrize("w", [1, 2, 5, CONTEXT, LONG])
def test_window_is_that_of_mistral(w: int) -> None:
    model = make_model("rope", family="llama", n_heads=4, n_kv_heads=2, head_dim=16)
    assert_same(model, extend(model, LONG, window={"w": w}), hosts.mistral(model, ROPE, w), LONG)


@pytest.mark.parametrize("order", list(itertools.permutations(["pi", "window"])), ids="+".join)
def test_pi_with_window_is_mistral_with_linear_rope(order: tuple[str, ...]) -> None:
    model = make_model("rope", family="llama")
    asked = {name: {"pi": {}, "window": {"w": 6}}[name] for name in order}
    host = hosts.mistral(model, {**LINEAR, "factor": 4.0}, 6)
    assert_same(model, extend(model, LONG, **asked), host, LONG)


@torch.no_grad()
@pytest.mark.parametrize("family", ["gpt", "llama"])
@pytest.mark.parametrize("name", [s for s in MASKABLE if s != "randomized"])
def test_a_window_of_one_sees_the_token_alone(name: str, family: str) -> None:
    """Each output is that of a sequence of one token at that position. Shapes of products differ: 2e-5."""
    model = make_model(name, family=family)
    tokens = random_tokens(CONTEXT)
    whole = model(tokens, extension=extend(model, CONTEXT, window={"w": 1}))
    for i in range(CONTEXT):
        alone = model(tokens[:, i : i + 1], positions=torch.tensor([i]))
        assert gap(whole[:, i : i + 1], alone) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("name", [s for s in MASKABLE if s not in ("randomized", "ssmax", "layers")])
def test_a_layer_with_a_window_sees_w_tokens(name: str) -> None:
    """With one layer, the last output is that of the last w tokens at their own positions.

    Not with ssmax, which counts all tokens, nor with positions that are drawn.
    """
    model = make_model(name, n_layers=1)
    tokens = random_tokens(CONTEXT)
    for w in (2, 7):
        last = model(tokens, extension=extend(model, CONTEXT, window={"w": w}))[:, -1]
        cut = model(tokens[:, -w:], positions=torch.arange(CONTEXT - w, CONTEXT))
        assert gap(last, cut[:, -1]) < TOLERANCE


# ---------------------------------------------------------------- spectra


def test_the_two_ramps_of_yarn_differ() -> None:
    """At L = 256, s = 4 and 128 dimensions by more than two thirds on some pair, as was measured elsewhere."""
    scheme = make_scheme("rope", ModelConfig(d_model=128, n_heads=1), 256)
    target = Target(256, 1024)
    code, paper = (ByParts(ByPartsConfig(ramp=r)).spectrum(scheme.frequencies(), target) for r in ("code", "paper"))
    assert 0.67 < float((code / paper - 1).abs().max()) < 1.4


def test_a_known_scale_of_dynamic_ntk() -> None:
    """f = 4 at 4 L is ntk with s = 13; up to L the very same bits."""
    theta = make_scheme("rope", ModelConfig(d_model=64, n_heads=1)).frequencies()
    dynamic, far = DynamicNTK(DynamicNTKConfig(f=4.0)), Target(CONTEXT, LONG)
    assert torch.equal(dynamic.spectrum(theta, far), NTK(ScaledConfig(s=13.0)).spectrum(theta, far))
    assert torch.equal(dynamic.spectrum(theta, Target(CONTEXT, CONTEXT)), theta)
    assert dynamic.resolved(far) == {"f": 4.0, "s": 13.0}


def test_what_a_fine_tune_keeps_acts_everywhere() -> None:
    theta = make_scheme("rope", ModelConfig(d_model=64, n_heads=1)).frequencies()
    cases: list[tuple[Any, dict[str, Any]]] = [(DynamicNTK, {"f": 4.0}), (ByParts, {}), (Yarn, {}), (Llama3, {})]
    cases.append((LongRope, {"factors": ":".join(["1.5"] * 32)}))
    for cls, own in cases:
        extension, far = cls(cls.Config(**own)), Target(CONTEXT, LONG)
        kept = cls(cls.Config(**{**own, **extension.frozen(far)}))
        for length in (5, CONTEXT, LONG, 1000):
            here = Target(CONTEXT, length)
            assert torch.equal(kept.spectrum(theta, here), extension.spectrum(theta, far)), cls
            assert kept.amplitude(here) == extension.amplitude(far)


def test_pairs_that_do_not_rotate_stay() -> None:
    """p-rope's zeros, under every scaling of frequencies; and the others are those of the whole rope."""
    theta = make_scheme("p-rope", ModelConfig(d_model=64, n_heads=1), kept=0.5).frequencies()
    whole = make_scheme("rope", ModelConfig(d_model=64, n_heads=1)).frequencies()
    slower = LongRope(LongRope.Config(factors=":".join(["1.5"] * 32)))
    plain = (PI, NTK, DynamicNTK, ABF, ByParts, Yarn, Llama3, Resonance)
    for extension in (slower, *(cls(cls.Config()) for cls in plain)):
        cls = type(extension)
        found = extension.spectrum(theta, Target(CONTEXT, LONG))
        assert bool((found[16:] == 0).all()), cls
        # The slope of a ramp by numbers is read off the frequencies: to rounding.
        torch.testing.assert_close(found[:16], extension.spectrum(whole, Target(CONTEXT, LONG))[:16], rtol=1e-5, atol=0)


# ---------------------------------------------------------------- algebra

COMPOSITIONS = [
    ("rope", [Yarn(Yarn.Config()), LogN(LogNConfig()), Window(WindowConfig(w=5))]),
    ("rope", [Resonance(Resonance.Config()), NTK(ScaledConfig()), LogN(LogNConfig())]),
    ("rope", [PI(ScaledConfig()), Window(WindowConfig(w=5)), Window(WindowConfig(w=9))]),
    ("partial-rope", [NTK(ScaledConfig(s=3.0)), Window(WindowConfig())]),
    ("sinusoidal", [Interpolate(InterpolateConfig()), Window(WindowConfig(w=5))]),
    ("learned", [Interpolate(InterpolateConfig()), Window(WindowConfig(w=5))]),
]


@torch.no_grad()
@pytest.mark.parametrize("name, parts", COMPOSITIONS, ids=[name for name, _ in COMPOSITIONS])
def test_order_changes_nothing(name: str, parts: list[Extension]) -> None:
    """Not one bit: Applied itself may sort nothing, and parts that touch different things commute exactly."""
    model = make_model(name)
    target = extend(model, LONG, window={}).target
    assert target is not None
    tokens = random_tokens(LONG)
    first, *others = (model(tokens, extension=together(order, target)) for order in itertools.permutations(parts))
    assert all(torch.equal(first, other) for other in others)
    # And each part acts: leaving any out (but the wider window) changes the result.
    for part in parts:
        if isinstance(part, Window) and part.config.w == 9:
            continue
        rest = [p for p in parts if p is not part]
        if name == "learned" and isinstance(part, Interpolate):
            continue  # refused without it
        assert gap(model(tokens, extension=together(rest, target)), first) > 1e-3


@torch.no_grad()
def test_masks_intersect() -> None:
    model = make_model("alibi")
    tokens, target = random_tokens(LONG), Target(CONTEXT, LONG)
    wide, narrow = Window(WindowConfig(w=9)), Window(WindowConfig(w=5))
    both = model(tokens, extension=together([wide, narrow], target))
    assert torch.equal(both, model(tokens, extension=together([narrow], target)))


def fitting(scheme: Scheme) -> list[str]:
    return sorted(name for name, cls in extensions().items() if fits(cls, scheme))


@torch.no_grad()
@pytest.mark.parametrize("name", SCHEMES)
def test_no_extension_is_the_model_as_it_is(name: str) -> None:
    """None asked for, and every extension where there is nothing to extend (ℓ ≤ L): bit-equal.

    Pairs that stand elsewhere at the same distance are the same to rounding.
    """
    model = make_model(name)
    tokens = random_tokens(CONTEXT - 3)
    plain = model(tokens)
    assert torch.equal(model(tokens, extension=NONE), plain)
    assert torch.equal(model(tokens, extension=extend(model, CONTEXT - 3)), plain)
    for asked in fitting(model.scheme):
        own = needed(asked, model.scheme)
        found = model(tokens, extension=extend(model, CONTEXT - 3, **{asked: own}))
        # Another base, other wavelengths, or distances that end, are so at every length.
        if asked in ("abf", "resonance", "rerope"):
            assert gap(found, plain) > 1e-4, asked
        elif asked in ("dual-chunk", "sinks"):
            assert gap(found, plain) < TOLERANCE, asked
        else:
            assert torch.equal(found, plain), asked


@torch.no_grad()
@pytest.mark.parametrize("name", SCHEMES)
def test_no_extension_changes_the_model(name: str) -> None:
    """After long and short passes under every extension: all values, and a plain pass, are bit-equal."""

    def everything() -> dict[str, Tensor]:
        return {k: t.clone() for k, t in [*model.named_parameters(), *model.named_buffers()]}

    model = make_model(name)
    tokens = random_tokens(LONG)
    before, plain = everything(), model(tokens[:, :CONTEXT])
    for asked in fitting(model.scheme):
        own = needed(asked, model.scheme)
        if model.scheme.last_position is None or asked == "interpolate":
            first = model(tokens, extension=extend(model, LONG, **{asked: own}))
            model(tokens[:, :5], extension=extend(model, 5, **{asked: own}))
            again = model(tokens, extension=extend(model, LONG, **{asked: own}))
            assert torch.equal(first, again), asked
        else:
            model(tokens[:, :CONTEXT], extension=extend(model, CONTEXT, **{asked: own}))
        after = everything()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[k], before[k]) for k in before), asked
        assert torch.equal(model(tokens[:, :CONTEXT]), plain), asked
