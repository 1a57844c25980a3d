"""The comparisons of every scheme, for ``posx verify`` and the tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from posx.config.schema import ModelConfig
from posx.models.decoder import count_parameters
from posx.schemes.base import Scheme
from posx.verify.oracles import packaged
from posx.verify.oracles import papers as written
from posx.verify.oracles.layer import (
    FAR,
    LAYER,
    LENGTHS,
    SHAPES,
    Comparison,
    Layer,
    Pairs,
    added,
    by_distance,
    by_layer,
    turned,
)
from posx.verify.oracles.packaged import host, whole
from posx.verify.oracles.small_models import CONTEXT, make_model, make_scheme

PAPER = "the paper's formula in float64"

# ---------------------------------------------------------------- formulas of the papers


def _nope(a: Layer) -> Tensor:
    return written.attention(a.q, a.k, a.v, last=a.last)


def _linear_rope(a: Layer) -> Tensor:
    return written.linear_rope(a.q, a.k, a.v, last=a.last)


def _stick_breaking(a: Layer) -> Tensor:
    return written.stick_breaking(a.q, a.k, a.v, a.last)


def _rope(a: Layer) -> list[float]:
    return written.frequencies(a.width)


def _alibi(a: Layer, h: int, d: float) -> float:
    return -written.alibi_slopes(a.heads)[h] * d


def _t5(a: Layer, h: int, d: float) -> float:
    reach = a.scheme.config.max_distance or CONTEXT
    return float(a.own("table")[h, written.t5_bucket(d, a.scheme.config.buckets, reach)])


def _kerple(a: Layer, h: int, d: float) -> float:
    return written.kerple(a.scheme.config.kernel, float(a.own("r1")[h]), float(a.own("r2")[h]), d)


def _sandwich(a: Layer, h: int, d: float) -> float:
    return written.sandwich(h, a.heads, d, a.scheme.config.width, a.scheme.config.base)


def _fire(a: Layer) -> written.Addend:
    first, inner, outer = (a.own(name).tolist() for name in ("first.weight", "first.bias", "second.weight"))
    c, end = float(a.own("c")), float(a.own("multiple")) * CONTEXT
    return lambda b, h, i, j: written.fire(i, j, c, end, first, inner, outer[h])


def _xpos(a: Layer) -> Tensor:
    """The paper interleaves the dimensions of a pair; posx splits them in halves."""
    halves = [*range(0, a.width, 2), *range(1, a.width, 2)]
    base, scale_base = a.scheme.config.base, a.scheme.config.scale_base
    order = sorted(range(a.width), key=halves.__getitem__)
    q, k = (written.xpos(x[..., order], a.at.tolist(), base, scale_base, s) for x, s in ((a.q, 1), (a.k, -1)))
    return written.attention(q, k, a.v, last=a.last)


def _gates(formula: Callable[[Tensor, Tensor, Tensor], written.Addend]) -> Callable[[Layer], Tensor]:
    return added(lambda a: formula(a.x, a.own("weight")[LAYER], a.own("offset")[LAYER]))


def _shaw(a: Layer) -> written.Addend:
    return written.shaw(a.q, a.own("table")[LAYER])


def _shaw_values(a: Layer) -> Tensor:
    """Equation 3: the rows of a second table are added to the values."""
    rows = a.own("value_table")[LAYER]
    return written.attention(a.q, a.k, a.v, _shaw(a), value_addend=lambda i, j: rows[min(i - j, len(rows) - 1)])


def _transformer_xl(a: Layer) -> written.Addend:
    return written.transformer_xl(a.q, a.k, a.own("w")[LAYER], a.own("u"), a.own("v"))


def _cope(a: Layer) -> Tensor:
    return written.cope(a.q, a.k, a.v, a.own("table")[LAYER], a.last)


def _dape(a: Layer) -> Tensor:
    bias: written.Addend = lambda b, h, i, j: _alibi(a, h, i - j)  # noqa: E731
    return written.dape(
        a.q, a.k, a.v, bias, *(a.own(name)[LAYER] for name in ("first", "first_offset", "second")), a.last
    )


def _ssmax(a: Layer) -> Tensor:
    inner, s = a.scheme.config.inner["name"], a.own("s")[LAYER].tolist()
    q, k = a.q, a.k
    if inner == "rope":
        q, k = (written.rotated(x, a.at.tolist(), _rope(a)) for x in (q, k))
    bias: written.Addend = lambda b, h, i, j: _alibi(a, h, i - j) if inner == "alibi" else 0.0  # noqa: E731
    return written.attention(q, k, a.v, bias, scale=lambda b, h, i, j: s[h] * math.log(i + 1), last=a.last)


def _ssmax_of_content(a: Layer) -> Tensor:
    """All logits are multiplied, including biases; the query in a bias is not multiplied again."""
    s = a.own("s")[LAYER].tolist()
    if a.scheme.config.inner["name"] == "shaw":
        bias = written.shaw(a.q, a.own("inner.table")[LAYER])
    else:
        bias = written.transformer_xl(a.q, a.k, a.own("inner.w")[LAYER], a.own("inner.u"), a.own("inner.v"))
    return written.attention(a.q, a.k, a.v, bias, scale=lambda b, h, i, j: s[h] * math.log(i + 1))


def _in_both_layers() -> Pairs:
    """Rope in the first layer, no positions in the second; and in the other order."""
    yield from by_layer("layers", _nope, [{"layers": ["rope", "nope"]}])()
    yield from by_layer("layers", turned(_rope), [{"layers": ["nope", "rope"]}])()


# ---------------------------------------------------------------- before the first layer


def embedded(
    name: str, vectors: Callable[[Scheme, Tensor], Tensor], concatenated: bool, **settings: Any
) -> Callable[[], Pairs]:
    """The input of the first layer: the sum of token and position ``vectors``, or both concatenated."""

    def pairs() -> Pairs:
        for heads, width in SHAPES:
            config = ModelConfig(d_model=heads * width, n_heads=heads)
            scheme = make_scheme(name, config, **settings)
            draw = torch.Generator().manual_seed(width)
            for parameter in scheme.parameters():
                nn.init.normal_(parameter, generator=draw)
            for length in LENGTHS:
                if scheme.last_position is not None and length > scheme.last_position + 1:
                    continue
                at = scheme.positions(length)
                tokens = torch.randn(2, length, scheme.token_width, generator=draw)
                inner = getattr(scheme, "inner", scheme)
                scaled = tokens.double() * (math.sqrt(heads * width) if inner.config.scale_tokens else 1.0)
                theirs = vectors(scheme, at).expand(2, -1, -1)
                yield scheme.embed(tokens, at), torch.cat([scaled, theirs], -1) if concatenated else scaled + theirs

    return pairs


def _sinusoids(scheme: Scheme, at: Tensor) -> Tensor:
    inner: Any = getattr(scheme, "inner", scheme)
    return written.sinusoids(at.tolist(), inner.width, inner.config.base)


def _rows(scheme: Scheme, at: Tensor) -> Tensor:
    inner: Any = getattr(scheme, "inner", scheme)
    return torch.stack([inner.table.detach()[int(p)].double() for p in at])


def _one_rotation() -> Pairs:
    """PE(p + n) = M_n·PE(p) for all p, with M_n built from sin and cos of n·θ in the paper's PE(n)."""
    for width in (8, 24):
        scheme: Any = make_scheme("sinusoidal", ModelConfig(d_model=width, n_heads=1))
        table = scheme.vectors(torch.arange(40)).double()
        for n in (1, 7, 15):
            (known,) = written.sinusoids([n], width)
            move = torch.zeros(width, width, dtype=torch.float64)
            for at in range(0, width, 2):
                move[at, at] = move[at + 1, at + 1] = known[at + 1]
                move[at, at + 1], move[at + 1, at] = known[at], -known[at]
            yield table[n:], table[:-n] @ move.T


def _equal_width(name: str) -> Callable[[], Pairs]:
    """With concatenation, V·C + L·C parameters become V·(C − w) + L·w: the model does not grow."""

    def pairs() -> Pairs:
        for width in (16, 48):
            added, concatenated = (
                count_parameters(make_model(n, d_model=width, n_heads=1)) for n in (name, f"{name}-concat")
            )
            rows, own = CONTEXT if name == "learned" else 0, width // 4
            expected = added["total"] - 61 * own - rows * (width - own)
            yield torch.tensor(float(concatenated["total"])), torch.tensor(float(expected))

    return pairs


def _any_order() -> Pairs:
    """nope is permutation-equivariant without a mask: the last query sees all keys, so their order does not matter."""
    for heads, width in SHAPES:
        a = Layer("nope", heads, width, 40)
        order = torch.randperm(40, generator=torch.Generator().manual_seed(heads))
        before = a.attended(last=1)
        a.k, a.v = a.k[:, :, order], a.v[:, :, order]
        yield a.attended(last=1), before


# ---------------------------------------------------------------- drawn positions


def _drawn(name: str) -> Tensor:
    """Positions of 4,000 sequences of 5 tokens: sampled from 20 (randomized), or with one of 20 shifts (shape)."""
    own = {"longest": 20} if name == "randomized" else {"shift": 19}
    drawn = make_scheme(name, ModelConfig(), **own).train_positions(4000, 5, torch.Generator().manual_seed(0))
    assert drawn is not None
    return drawn


def _frequencies_of_draws(name: str) -> Callable[[], Pairs]:
    """How often each position is drawn, in standard errors from the expected frequency."""

    def pairs() -> Pairs:
        drawn = _drawn(name)
        share = 5 / 20 if name == "randomized" else 1 / 20
        counts = torch.bincount(drawn.flatten() if name == "randomized" else drawn[:, 0], minlength=20).double()
        yield (counts - 4000 * share) / math.sqrt(4000 * share * (1 - share)), torch.zeros(20)

    return pairs


def _in_order() -> Pairs:
    """Each sample is ascending and within 0 .. M − 1."""
    drawn = _drawn("randomized")
    yield (drawn.diff() <= 0).sum(), torch.tensor(0)
    yield ((drawn < 0) | (drawn > 19)).sum(), torch.tensor(0)


def _one_shift() -> Pairs:
    """All tokens of a sequence have the same shift."""
    yield _drawn("shape").diff(), torch.ones(4000, 4)


# ---------------------------------------------------------------- all of them

GPT_SHAPES: tuple[dict[str, Any], ...] = (
    {"d_model": 16, "n_heads": 1},
    {"d_model": 48, "n_heads": 3},
    {"d_model": 32, "n_heads": 4, "tie_embeddings": False},
    {"d_model": 48, "n_heads": 6, "d_ff": 40},
    {"d_model": 96, "n_heads": 12},
)
LLAMA_SHAPES: tuple[dict[str, Any], ...] = (
    {"d_model": 48, "n_heads": 3},
    {"d_model": 32, "n_heads": 4, "n_kv_heads": 2, "tie_embeddings": False},
    {"d_model": 48, "n_heads": 6, "n_kv_heads": 2, "head_dim": 16, "d_ff": 40},
)
BASES = ({}, {"base": 500000.0})
KEPT = ({"kept": 0.25}, {"kept": 0.7, "base": 1000.0}, {"kept": 1.0})
FRACTIONS = ({"fraction": 0.25, "base": 1000.0}, {"fraction": 0.5}, {"fraction": 0.75})
CLIPS = tuple({"clip": clip} for clip in (1, 7, 16, 64))
POSITIONS = tuple({"p_max": p} for p in (1, 4, 15, 60))
EVEN_HEADS = tuple(s for s in SHAPES if s[1] >= 8)
MAPPED = tuple(s for s in GPT_SHAPES if s["n_heads"] < 12)

FAR_OFF = f"{PAPER}, at 300 and 16,384 keys"
NOT_SO_FAR = f"{PAPER}, at 300 keys"
LONG = (300, 16384)


def far(name: str, expected: Callable[[Layer], Tensor], tolerance: float = FAR, **own: Any) -> Comparison:
    """The last queries of a long input, where sums and positions lose precision and states are carried over."""
    return Comparison(name, FAR_OFF, by_layer(name, expected, [own], (), LONG), tolerance)


def long(name: str, expected: Callable[[Layer], Tensor], tolerance: float = FAR, **own: Any) -> Comparison:
    """The same at 300 keys only, for schemes whose loops over 16,384 keys would take minutes."""
    return Comparison(name, NOT_SO_FAR, by_layer(name, expected, [own], (), LONG[:1]), tolerance)


ANGLES = 1e-3  # the float32 rounding error of 16,384 radians, in one of four pairs
COMPARISONS: tuple[Comparison, ...] = (
    far("nope", _nope),
    far("rope", turned(_rope), ANGLES),
    far("partial-rope", turned(lambda a: written.frequencies(round(a.width * a.scheme.config.fraction))), ANGLES),
    far("p-rope", turned(lambda a: written.p_frequencies(a.width, a.scheme.config.kept)), ANGLES),
    far("xpos", _xpos, ANGLES),
    long("linear-rope", _linear_rope),
    far("alibi", by_distance(_alibi)),
    far("t5", by_distance(_t5)),
    far("kerple-log", by_distance(_kerple)),
    far("kerple-power", by_distance(_kerple)),
    far("sandwich", by_distance(_sandwich)),
    far("fire", added(_fire)),
    far("shaw", added(_shaw)),
    long("transformer-xl", added(_transformer_xl)),
    far("forgetting", _gates(written.forgetting)),
    far("cable", _gates(written.cable)),
    long("cope", _cope),
    long("dape", _dape),
    long("stick-breaking", _stick_breaking),
    far("ssmax", _ssmax, ANGLES, inner="alibi"),
    Comparison("nope", PAPER, by_layer("nope", _nope)),
    Comparison("nope", "itself without a mask, keys permuted", _any_order),
    Comparison("nope", "transformers GPT-2, table of zeros", whole("nope", host("gpt2"), MAPPED)),
    Comparison("nope", "transformers SmolLM3, rope off", whole("nope", host("smollm3"), LLAMA_SHAPES, "llama")),
    Comparison("sinusoidal", PAPER, embedded("sinusoidal", _sinusoids, False)),
    Comparison("sinusoidal", "PE(p + n) = M_n·PE(p), one rotation M_n", _one_rotation),
    Comparison("sinusoidal-concat", PAPER, embedded("sinusoidal-concat", _sinusoids, True)),
    Comparison("sinusoidal-concat", "equal d_model, parameter counts", _equal_width("sinusoidal"), tolerance=0),
    Comparison("learned", PAPER, embedded("learned", _rows, False)),
    Comparison("learned", "transformers GPT-2", whole("learned", packaged.gpt2_table, MAPPED)),
    Comparison("learned-concat", PAPER, embedded("learned-concat", _rows, True)),
    Comparison("learned-concat", "equal d_model, parameter counts", _equal_width("learned"), tolerance=0),
    Comparison("rope", PAPER, by_layer("rope", turned(_rope))),
    Comparison("rope", "transformers GPT-NeoX", whole("rope", packaged.neox, MAPPED)),
    Comparison("rope", "transformers Llama", whole("rope", packaged.llama, LLAMA_SHAPES, "llama", BASES)),
    Comparison("rope", "x-transformers, interleaved", by_layer("rope", packaged.x_rotary)),
    Comparison("partial-rope", PAPER, by_layer("partial-rope", turned(
        lambda a: written.frequencies(round(a.width * a.scheme.config.fraction), a.scheme.config.base)
    ), FRACTIONS[:2], EVEN_HEADS)),
    Comparison("partial-rope", "transformers GPT-NeoX", whole("partial-rope", packaged.neox, (
        {"d_model": 48, "n_heads": 3}, {"d_model": 32, "n_heads": 4}), settings=FRACTIONS)),
    Comparison("partial-rope", "transformers GLM, interleaved", whole(
        "partial-rope", packaged.glm, LLAMA_SHAPES[2:], "llama",
        ({"fraction": 0.25}, {"fraction": 0.5}, {"fraction": 1.0}))),
    Comparison("p-rope", PAPER, by_layer("p-rope", turned(
        lambda a: written.p_frequencies(a.width, a.scheme.config.kept, a.scheme.config.base)
    ), KEPT, EVEN_HEADS)),
    Comparison("p-rope", "transformers Llama, rope type proportional", whole(
        "p-rope", packaged.proportional, LLAMA_SHAPES, "llama", KEPT)),
    Comparison("xpos", PAPER, by_layer("xpos", _xpos, ({}, {"base": 300.0, "scale_base": 100.0}))),
    Comparison("linear-rope", PAPER, by_layer("linear-rope", _linear_rope)),
    Comparison("alibi", PAPER, by_layer("alibi", by_distance(_alibi))),
    Comparison("alibi", "transformers MPT", whole("alibi", host("mpt"), tuple(
        {"n_heads": h, "d_model": 8 * h} for h in (1, 3, 4, 6, 8, 12)))),
    Comparison("alibi", "transformers BLOOM, +m·j", whole(
        "alibi", host("smollm3"), LLAMA_SHAPES, "llama", addend=packaged.bloom)),
    Comparison("t5", PAPER, by_layer("t5", by_distance(_t5), ({}, {"buckets": 7, "max_distance": 30}))),
    Comparison("t5", "transformers T5, in GPT-2", whole("t5", host("gpt2"), MAPPED, addend=packaged.t5_bias)),
    Comparison("t5", "transformers T5, in SmolLM3", whole(
        "t5", host("smollm3"), LLAMA_SHAPES, "llama", ({"max_distance": 20},), packaged.t5_bias)),
    Comparison("kerple-log", PAPER, by_layer("kerple-log", by_distance(_kerple))),
    Comparison("kerple-power", PAPER, by_layer("kerple-power", by_distance(_kerple))),
    Comparison("sandwich", PAPER, by_layer("sandwich", by_distance(_sandwich), ({}, {"width": 128, "base": 10000.0}))),
    Comparison("fire", PAPER, by_layer("fire", added(_fire))),
    Comparison("shaw", PAPER, by_layer("shaw", added(_shaw), CLIPS[1:3])),
    Comparison("shaw", f"{PAPER}, with values", by_layer("shaw", _shaw_values, [
        {"values": True, "clip": clip} for clip in (1, 7, 16)]), tolerance=FAR),
    Comparison("shaw", "transformers Wav2Vec2-BERT, relative_key", by_layer("shaw", packaged.wav2vec2_bert, CLIPS)),
    Comparison("transformer-xl", PAPER, by_layer("transformer-xl", added(_transformer_xl))),
    Comparison("transformer-xl", "transformers XLNet, rel_attn_core", by_layer("transformer-xl", packaged.xlnet)),
    Comparison("forgetting", PAPER, by_layer("forgetting", _gates(written.forgetting))),
    Comparison("forgetting", "x-transformers DataDependentAlibi", by_layer("forgetting", packaged.forget_gates)),
    Comparison("cable", PAPER, by_layer("cable", _gates(written.cable))),
    Comparison("cope", PAPER, by_layer("cope", _cope, POSITIONS[1:3]), tolerance=FAR),
    Comparison("cope", "x-transformers CoPE", by_layer("cope", packaged.x_cope, POSITIONS), tolerance=FAR),
    Comparison("dape", PAPER, by_layer("dape", _dape)),
    Comparison("stick-breaking", PAPER, by_layer("stick-breaking", _stick_breaking)),
    Comparison("randomized", f"{PAPER}, over sinusoidal", embedded("randomized", _sinusoids, False)),
    Comparison("randomized", f"{PAPER}, over learned", embedded("randomized", _rows, False, inner="learned")),
    Comparison("randomized", f"{PAPER}, over rope", by_layer("randomized", turned(_rope), [{"inner": "rope"}])),
    Comparison("randomized", f"{PAPER}, over alibi", by_layer("randomized", by_distance(_alibi), [{"inner": "alibi"}])),
    Comparison("randomized", "ascending samples from 0 .. M − 1", _in_order, tolerance=0),
    Comparison("randomized", "uniform draws, in standard errors", _frequencies_of_draws("randomized"), tolerance=5),
    Comparison("shape", PAPER, embedded("shape", _sinusoids, False)),
    Comparison("shape", "one shift per sequence", _one_shift, tolerance=0),
    Comparison("shape", "uniform draws, in standard errors", _frequencies_of_draws("shape"), tolerance=5),
    Comparison("layers", f"{PAPER}, rope and nope", _in_both_layers),
    Comparison("layers", "transformers SmolLM3", whole("layers", packaged.smollm3, tuple(
        {**shape, "n_layers": 5} for shape in LLAMA_SHAPES), "llama", ({"layers": ["rope", "rope", "rope", "nope"]},)
    )),
    Comparison("ssmax", f"{PAPER}, over shaw and transformer-xl", by_layer("ssmax", _ssmax_of_content, [
        {"inner": "shaw"}, {"inner": "transformer-xl"}]), tolerance=1e-4),  # of logits up to 500
    Comparison("ssmax", PAPER, by_layer("ssmax", _ssmax, tuple({"inner": n} for n in ("rope", "alibi", "nope")))),
)  # fmt: skip
