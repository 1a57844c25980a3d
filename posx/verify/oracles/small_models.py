"""Small schemes and models with sharp weights, for comparisons.

The weights of ``sharp`` models are large on purpose. At the usual standard deviation of 0.02 all logits are
near zero and attention is nearly uniform: a wrong angle or slope would hide below any tolerance.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import ModelConfig
from posx.models import build as components
from posx.models.build import complete_scheme
from posx.models.decoder import Decoder, initialise, model_shape
from posx.schemes.base import Scheme

CONTEXT = 16
VOCAB = 61
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


def make_scheme(
    name: str, config: ModelConfig, context: int = CONTEXT, *, catalog: Catalog = PACKAGED, **settings: Any
) -> Scheme:
    """The scheme of configs/scheme/``name``.yaml with other settings, checked as posx does it.

    ``catalog``: where the name and its class come from.
    """
    shape = model_shape(config, context)
    name, more = VARIANTS.get(name, (name, {}))
    asked = {"name": name, **TINY.get(name, {}), **more, **settings}
    return components.make_scheme(complete_scheme(asked, shape, catalog), shape, catalog)


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
    catalog: Catalog = PACKAGED,
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
    model = Decoder(config, make_scheme(name, config, context, catalog=catalog, **settings), vocab).eval()
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
        own = name.rpartition(".")[2] if name.startswith("scheme.") else ""
        if own in ("r1", "r2"):  # of kerple: away from their limits
            parameter.copy_(0.1 + 0.5 * noise.abs().clamp(max=3))
        elif own == "s":  # of ssmax: about where it starts, or ln 16,384 of it would be a sharpness of 5
            parameter.copy_((1 + 0.2 * noise) / math.log(CONTEXT))
        elif own:
            parameter.copy_(0.5 * noise)
        elif parameter.ndim == 1:
            parameter.copy_(1 + 0.2 * noise)
        elif name in ("tokens.weight", "head.weight"):
            parameter.copy_(0.3 * noise)
        else:
            peaked = 1.5 if ".attention.q." in name or ".attention.k." in name else 1.0
            parameter.copy_(peaked * parameter.shape[1] ** -0.5 * noise)


def random_tokens(length: int, batch: int = 2, seed: int = 0, vocab: int = VOCAB) -> Tensor:
    """Token ids [batch, length]."""
    return torch.randint(vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


def gap(actual: Tensor, expected: Tensor) -> float:
    """Largest absolute difference, in float64; shapes must agree exactly and nothing may be NaN."""
    assert actual.shape == expected.shape, f"{tuple(actual.shape)} beside {tuple(expected.shape)}"
    difference = (actual.detach().double() - expected.detach().double()).abs()
    assert not difference.isnan().any()
    return float(difference.max())
