"""Small models with sharp weights, for every scheme that there is; and posx as a command.

The weights of ``sharp`` models are large on purpose. At the usual standard deviation of 0.02 all logits are
near zero and attention is nearly uniform: a wrong angle or slope would hide below any tolerance.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from typer.testing import CliRunner

from posx import components
from posx.cli import app
from posx.components import ExtensionSpec, bind
from posx.compose import complete_scheme, known_extensions, known_schemes
from posx.config import ModelConfig
from posx.extensions.base import NONE, Applied
from posx.model import Decoder, initialise, model_shape
from posx.schemes.base import Scheme, Site

torch.set_num_threads(1)

CONTEXT = 16
VOCAB = 61
FAMILIES = ("gpt", "llama")
SCHEMES = tuple(sorted(known_schemes()))
# What a context of 16 tokens needs: T5's usual 32 buckets would give one to each distance, and refuse. And less of what
# FlexAttention, uncompiled, goes through one by one.
TINY: dict[str, dict[str, Any]] = {
    "t5": {"buckets": 8},
    "fire": {"hidden": 4},
    "cope": {"p_max": 5},
    "dape": {"hidden": 6},
    "layers": {"layers": ["rope", "nope"]},
    "randomized": {"longest": 64},
    "shape": {"shift": 20},
    "sandwich": {"width": 8, "base": 10.0},
}
# A scheme that a setting makes another one: which, and with what.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {"shaw-values": ("shaw", {"values": True})}
# Schemes whose logits may depend on i − j alone.
ABSOLUTE = ("fire", "learned", "learned-concat", "randomized", "shape", "sinusoidal", "sinusoidal-concat")
RELATIVE = tuple(s for s in SCHEMES if s not in ABSOLUTE)
# Schemes whose attention can leave out keys.
MASKABLE = tuple(s for s, (cls, _) in sorted(known_schemes().items()) if cls.masks)
schemes = functools.cache(known_schemes)
extensions = functools.cache(known_extensions)


def make_scheme(name: str, config: ModelConfig, context: int = CONTEXT, **settings: Any) -> Scheme:
    """The scheme of configs/scheme/``name``.yaml with other settings, checked as posx does it."""
    shape = model_shape(config, context)
    name, more = VARIANTS.get(name, (name, {}))
    settings = {**more, **settings}
    return components.make_scheme(complete_scheme({"name": name, **TINY.get(name, {}), **settings}, shape), shape)


def make_model(
    name: str,
    *,
    family: str = "gpt",
    context: int = CONTEXT,
    n_layers: int = 2,
    d_model: int = 48,
    n_heads: int = 3,
    n_kv_heads: int | None = None,
    head_dim: int | None = None,
    d_ff: int | None = None,
    tie_embeddings: bool = True,
    vocab: int = VOCAB,
    seed: int = 0,
    sharp: bool = True,
    **settings: Any,
) -> Decoder:
    """A decoder of this scheme; ``settings`` are its own. ``sharp=False``: posx's own initial values."""
    config = ModelConfig(
        family=family,
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        d_ff=d_ff,
        tie_embeddings=tie_embeddings,
    )
    model = Decoder(config, make_scheme(name, config, context, **settings), vocab).eval()
    initialise(model, seed)
    if sharp:
        sharpen(model, seed)
    return model


@torch.no_grad()
def sharpen(model: Decoder, seed: int = 0) -> None:
    """Weights of a size at which attention is peaked and every part of the model matters to its output."""
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=draw)
        if name in ("scheme.r1", "scheme.r2"):  # of kerple: away from their limits
            parameter.copy_(0.1 + 0.5 * noise.abs().clamp(max=3))
        elif name.startswith("scheme."):
            parameter.copy_(0.5 * noise)
        elif parameter.ndim == 1:
            parameter.copy_(1 + 0.2 * noise)
        elif name in ("tokens.weight", "head.weight"):
            parameter.copy_(0.3 * noise)
        else:
            peaked = 1.5 if ".attention.q." in name or ".attention.k." in name else 1.0
            parameter.copy_(peaked * parameter.shape[1] ** -0.5 * noise)


def rotated(scheme: Scheme, q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """What the scheme makes of q and k [B, H, T, D] at these positions."""
    return scheme.rotate(q, k, Site(positions, positions, shared=scheme.prepare(positions, NONE)))


def random_tokens(length: int, batch: int = 2, seed: int = 0, vocab: int = VOCAB) -> Tensor:
    """Token ids [batch, length]."""
    return torch.randint(vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


def extend(model: Decoder, length: int, **asked: dict[str, Any]) -> Applied:
    """Extensions by name with their parameters, bound at this length: ``extend(model, 64, pi={})``."""
    specs = [ExtensionSpec(name, extensions()[name], params) for name, params in asked.items()]
    return bind(specs, model.scheme, length)


def posx(*arguments: object, code: int = 0) -> Any:
    """A command in this process; anything but a clean exit with this code is a failure with its output."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, f"exit code {result.exit_code}\n{result.stdout}\n{result.stderr}"
    return result


def gap(actual: Tensor, expected: Tensor) -> float:
    """Largest absolute difference, in float64; shapes must agree exactly and nothing may be NaN."""
    assert actual.shape == expected.shape, f"{tuple(actual.shape)} beside {tuple(expected.shape)}"
    difference = (actual.detach().double() - expected.detach().double()).abs()
    assert not difference.isnan().any()
    return float(difference.max())
