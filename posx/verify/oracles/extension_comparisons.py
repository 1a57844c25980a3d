"""The comparisons of every extension, for ``posx verify`` and the tests.

Whole models of transformers are compared at the training context L, at L + 1, at a length that is not a multiple of L,
and at 8 L; frequencies, from transformers and from formulas, up to 64 L. Models of transformers cache the frequencies
of previous inputs, so each length gets a new model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from posx.config.schema import ModelConfig
from posx.models.binding import bind, parse_extension
from posx.verify.oracles import papers as written
from posx.verify.oracles.layer import FAR, SHAPES, Comparison, Layer, Pairs
from posx.verify.oracles.moved_pairs import ELSEWHERE
from posx.verify.oracles.packaged import ROPE
from posx.verify.oracles.small_models import CONTEXT, make_model, make_scheme, random_tokens

PAPER = "the paper's formula in float64"
LLAMA: tuple[dict[str, Any], ...] = (
    {"d_model": 48, "n_heads": 3},
    {"d_model": 128, "n_heads": 2, "n_kv_heads": 1, "n_layers": 1},
)
Rope = Callable[[float], dict[str, Any]]  # rope_parameters of transformers at a scale ℓ / L


def in_llama(text: str, rope: Rope) -> Callable[[], Pairs]:
    """posx with the extension, Llama with ``rope``: final hidden states and logits for the same tokens."""

    def pairs() -> Pairs:
        from posx.verify.oracles import host_models as hosts

        for shape in LLAMA:
            model = make_model("rope", family="llama", **shape)
            factors = rising(model.scheme.rotated // 2)
            spec = text.replace("FACTORS", ":".join(map(str, factors)))
            for length in (CONTEXT - 3, CONTEXT, CONTEXT + 1, 41, 8 * CONTEXT):
                theirs = {"rope_theta": 10000.0, **rope(max(1.0, length / CONTEXT))}
                if theirs.get("rope_type") == "longrope":
                    theirs |= {"long_factor": factors, "short_factor": [1.0] * len(factors)}
                host = hosts.llama(model, theirs, CONTEXT)
                tokens = random_tokens(length, batch=1)
                logits, last = hosts.run(host, tokens=tokens)
                hidden = model(tokens, extension=bind(parse_extension(spec), model.scheme, length))
                yield hidden, last
                yield model.logits(hidden), logits

    return pairs


def rising(pairs: int) -> list[float]:
    """Increasing factors of longrope, starting at 1, with two decimals."""
    return [round(1 + 5 * (k / pairs) ** 2, 2) for k in range(pairs)]


def interpolated() -> Pairs:
    """GPT-2 with a table stretched by torch."""
    from posx.verify.oracles import host_models as hosts

    for shape in ({"n_heads": 3}, {"n_heads": 4, "tie_embeddings": False}):
        model = make_model("learned", **shape)
        for length in (CONTEXT - 3, CONTEXT, CONTEXT + 1, 41, 8 * CONTEXT):
            table: Tensor = model.scheme.table.detach()
            if length > CONTEXT:
                table = F.interpolate(table.T[None], size=length, mode="linear", align_corners=True)[0].T
            tokens = random_tokens(length, batch=1)
            logits, last = hosts.run(hosts.gpt2(model, table), tokens=tokens)
            hidden = model(tokens, extension=bind(parse_extension("interpolate"), model.scheme, length))
            yield hidden, last
            yield model.logits(hidden), logits


def stretched_sinusoids() -> Pairs:
    """PE(p / s)."""
    for width in (8, 24):
        scheme: Any = make_scheme("sinusoidal", ModelConfig(d_model=width, n_heads=1))
        for length in (CONTEXT, CONTEXT + 1, 41, 64 * CONTEXT):
            applied = bind(parse_extension("interpolate"), scheme, length)
            s = max(1.0, length / CONTEXT)
            positions = applied.positions(torch.arange(length))
            yield scheme.vectors(positions), written.sinusoids([p / s for p in range(length)], width)


def windows() -> Pairs:
    """Mistral, whose window counts the query itself."""
    from posx.verify.oracles import host_models as hosts

    for w in (1, 2, 5, CONTEXT, 41):
        model = make_model("rope", family="llama", n_heads=4, n_kv_heads=2, head_dim=16)
        tokens = random_tokens(4 * CONTEXT)
        logits, last = hosts.run(hosts.mistral(model, ROPE, w), tokens=tokens)
        hidden = model(tokens, extension=bind(parse_extension(f"window(w={w})"), model.scheme, 4 * CONTEXT))
        yield hidden, last
        yield model.logits(hidden), logits


def frequencies(text: str, expected: Callable[[list[float], int, float], Sequence[float]]) -> Callable[[], Pairs]:
    """Angular frequencies compared with ``expected(θ, L, s)``, relative to θ; for several head dimensions and L."""

    def pairs() -> Pairs:
        for width in (4, 16, 64, 128):
            for context in (16, 64, 256, 512, 2048):
                scheme: Any = make_scheme("rope", ModelConfig(d_model=width, n_heads=1), context)
                theta = written.frequencies(width)
                for length in (context - 3, context, context + 1, round(2.6 * context), 64 * context):
                    applied = bind(parse_extension(text), scheme, length)
                    ours = applied.spectrum(scheme.frequencies()).double()
                    theirs = torch.tensor(expected(theta, context, max(1.0, length / context)), dtype=torch.float64)
                    exact = torch.tensor(theta, dtype=torch.float64)
                    yield ours / exact, theirs / exact

    return pairs


def of_transformers(rope: Rope) -> Callable[[list[float], int, float], Sequence[float]]:
    """The frequencies of transformers for a head of this dimension, context and scale."""

    def expected(theta: list[float], context: int, s: float) -> Sequence[float]:
        from transformers import LlamaConfig
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        parameters = {"rope_theta": 10000.0, "original_max_position_embeddings": context, **rope(s)}
        config = LlamaConfig(
            hidden_size=2 * len(theta),
            num_attention_heads=1,
            max_position_embeddings=math.ceil(context * s) + 1,
            rope_parameters=parameters,
        )
        theirs, _ = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, device=torch.device("cpu"))
        return [float(x) for x in theirs]

    return expected


def longrope_frequencies() -> Pairs:
    """θ_k / λ_k, relative to θ, and the factor of cosines and sines, compared with transformers' function."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    for width in (4, 64, 128):
        for context in (16, 64, 512):
            scheme: Any = make_scheme("rope", ModelConfig(d_model=width, n_heads=1), context)
            theta, factors = scheme.frequencies(), rising(width // 2)
            for length in (context - 3, context, context + 1, round(2.6 * context), 64 * context):
                text = f"longrope(factors={':'.join(map(str, factors))})"
                applied = bind(parse_extension(text), scheme, length)
                parameters = {
                    "rope_type": "longrope",
                    "rope_theta": 10000.0,
                    "factor": max(1.0, length / context),
                    "long_factor": factors,
                    "short_factor": [1.0] * len(factors),
                    "original_max_position_embeddings": context,
                }
                config = LlamaConfig(
                    hidden_size=width, num_attention_heads=1, max_position_embeddings=length, rope_parameters=parameters
                )
                theirs, attention = ROPE_INIT_FUNCTIONS["longrope"](config, torch.device("cpu"), seq_len=length)
                yield applied.spectrum(theta) / theta, theirs / theta
                yield torch.tensor(applied.amplitude()), torch.tensor(attention)


# ---------------------------------------------------------------- formulas


def longrope_layer() -> Pairs:
    """I(λ, n̂)·p·θ in a layer: positions below n̂ keep their angles; all q and k are scaled by √(1 + ln s / ln L)."""
    for heads, width, n in ((3, 8, 1), (2, 16, 6), (1, 4, CONTEXT // 2)):
        factors = rising(width // 2)
        for length in (5, CONTEXT, CONTEXT + 1, 41, 64 * CONTEXT):
            layer = Layer("rope", heads, width, length)
            text = f"longrope(factors={':'.join(map(str, factors))}, n={n})"
            applied = bind(parse_extension(text), layer.scheme, length)
            s, theta = length / CONTEXT, written.frequencies(width)
            slow = [t / f for t, f in zip(theta, factors, strict=True)]
            q, k = layer.q.double(), layer.k.double()
            if s <= 1:
                q, k = (written.rotated(x, range(length), theta) for x in (q, k))
            else:
                amplitude = math.sqrt(1 + math.log(s) / math.log(CONTEXT))
                q, k = (
                    amplitude
                    * torch.cat(
                        [
                            written.rotated(x[:, :, :n], range(n), theta),
                            written.rotated(x[:, :, n:], range(n, length), slow),
                        ],
                        dim=2,
                    )
                    for x in (q, k)
                )
            tail = min(2, length)
            yield layer.attended(last=tail, extension=applied), written.attention(q, k, layer.v, last=tail)
            if length <= 41:
                yield layer.attended(block=3, extension=applied), written.attention(q, k, layer.v)


def whole(theta: Sequence[float]) -> list[float]:
    """2π / round(2π / θ)."""
    return [2 * math.pi / round(2 * math.pi / t) for t in theta]


def ntk(theta: list[float], s: float) -> list[float]:
    """b·s^(R/(R−2)): θ_k · s^(−2k/(R−2))."""
    return [t * s ** (-2 * k / (2 * len(theta) - 2)) for k, t in enumerate(theta)]


def by_turns(theta: list[float], context: float, s: float, slow: float, fast: float) -> list[float]:
    """The paper's ramp: γ = (r − slow) / (fast − slow), r = L·θ / 2π; (1 − γ)·θ/s + γ·θ."""
    out = []
    for t in theta:
        gamma = min(1.0, max(0.0, (context * t / (2 * math.pi) - slow) / (fast - slow)))
        out.append((1 - gamma) * t / s + gamma * t)
    return out


def _log_n() -> Pairs:
    """q_i · max(1, ln(i + 1) / ln L) in a layer with alibi's bias, which is not multiplied."""
    for heads, width in SHAPES:
        for length in (1, 5, CONTEXT, CONTEXT + 1, 41):
            layer = Layer("alibi", heads, width, length)
            applied = bind(parse_extension("log-n"), layer.scheme, length)
            q = layer.q.double().clone()
            for i in range(length):
                q[:, :, i] *= max(1.0, math.log(i + 1) / math.log(CONTEXT))
            slopes = written.alibi_slopes(heads)
            theirs = written.attention(q, layer.k, layer.v, lambda b, h, i, j, m=slopes: -m[h] * (i - j))
            yield layer.attended(extension=applied), theirs
            yield layer.attended(last=min(3, length), extension=applied), theirs[:, :, -3:]


def yarn_rope(s: float) -> dict[str, Any]:
    return {"rope_type": "yarn", "factor": s}


def llama3_rope(s: float) -> dict[str, Any]:
    return {"rope_type": "llama3", "factor": s, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def longrope_rope(s: float) -> dict[str, Any]:
    return {"rope_type": "longrope", "factor": s, "original_max_position_embeddings": CONTEXT}


KIND: Any = {"kind": "extension"}
YARN = "transformers, rope type yarn"
EXTENDED: tuple[Comparison, ...] = (
    Comparison("pi", "transformers Llama, rope type linear", in_llama(
        "pi", lambda s: {"rope_type": "linear", "factor": s}), tolerance=FAR, **KIND),
    Comparison("pi", PAPER, frequencies("pi", lambda theta, context, s: [t / s for t in theta]), **KIND),
    Comparison("ntk", PAPER, frequencies("ntk", lambda theta, context, s: ntk(theta, s)), **KIND),
    Comparison("dynamic-ntk", "transformers Llama, rope type dynamic, fresh", in_llama(
        "dynamic-ntk(f=4)", lambda s: {"rope_type": "dynamic", "factor": 4.0}), tolerance=FAR, **KIND),
    Comparison("dynamic-ntk", PAPER, frequencies(
        "dynamic-ntk", lambda theta, context, s: ntk(theta, 2 * s - 1)), **KIND),
    Comparison("abf", "transformers Llama with that rope_theta", in_llama(
        "abf(base=70000)", lambda s: {"rope_type": "default", "rope_theta": 70000.0}), tolerance=FAR, **KIND),
    Comparison("by-parts", f"{YARN} and attention_factor 1", in_llama(
        "by-parts", lambda s: {**yarn_rope(s), "attention_factor": 1.0}), tolerance=FAR, **KIND),
    Comparison("by-parts", f"{YARN}, frequencies up to L = 2,048", frequencies(
        "by-parts", of_transformers(yarn_rope)), **KIND),
    Comparison("by-parts", f"{PAPER}, ramp=paper", frequencies(
        "by-parts(ramp=paper)", lambda theta, context, s: by_turns(theta, context, s, 1, 32)), **KIND),
    Comparison("yarn", YARN, in_llama("yarn", yarn_rope), tolerance=FAR, **KIND),
    Comparison("yarn", f"{YARN}, frequencies up to L = 2,048", frequencies(
        "yarn", of_transformers(yarn_rope)), **KIND),
    Comparison("llama3", "transformers Llama, rope type llama3", in_llama(
        "llama3", lambda s: {**llama3_rope(s), "original_max_position_embeddings": CONTEXT}), tolerance=FAR, **KIND),
    Comparison("llama3", "transformers, frequencies up to L = 2,048", frequencies(
        "llama3", of_transformers(llama3_rope)), **KIND),
    Comparison("llama3", PAPER, frequencies(
        "llama3", lambda theta, context, s: by_turns(theta, context, s, 1, 4)), **KIND),
    Comparison("longrope", "transformers Llama, rope type longrope, fresh", in_llama(
        "longrope(factors=FACTORS)", longrope_rope), tolerance=FAR, **KIND),
    Comparison("longrope", "transformers, rope type longrope, frequencies and factor", longrope_frequencies, **KIND),
    # Angles of 1,000 have rounding errors of 6e-5, which show in logits of 25.
    Comparison("longrope", f"{PAPER}, n from 1 to L / 2", longrope_layer, tolerance=4 * FAR, **KIND),
    Comparison("resonance", PAPER, frequencies("resonance", lambda theta, context, s: whole(theta)), **KIND),
    Comparison("resonance", f"{PAPER}, before ntk", frequencies(
        "ntk+resonance(when=before)", lambda theta, context, s: ntk(whole(theta), s)), **KIND),
    Comparison("resonance", f"{YARN}, its wavelengths rounded", frequencies(
        "resonance+yarn", lambda theta, context, s: whole(of_transformers(yarn_rope)(theta, context, s))), **KIND),
    Comparison("interpolate", "transformers GPT-2, its table stretched by torch", interpolated, **KIND),
    Comparison("interpolate", f"{PAPER}, sinusoids", stretched_sinusoids, **KIND),
    Comparison("window", "transformers Mistral", windows, **KIND),
    Comparison("log-n", PAPER, _log_n, **KIND),
    *ELSEWHERE,
)  # fmt: skip
