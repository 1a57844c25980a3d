"""Small schemes and models with sharp weights, for comparisons.

The weights of ``sharp`` models are large on purpose. With the usual standard deviation of 0.02, all logits are near
zero and attention is nearly uniform, so that a wrong angle or slope would go unnoticed.
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
# Settings for a context of 16 tokens, where T5's usual 32 buckets would be an error; and small sizes, because
# uncompiled FlexAttention is slow.
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
# Variants of a scheme that are checked as well: the scheme, and its settings.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {"shaw-values": ("shaw", {"values": True})}


def make_scheme(
    name: str, config: ModelConfig, context: int = CONTEXT, *, catalog: Catalog = PACKAGED, **settings: Any
) -> Scheme:
    """The scheme ``name`` of the catalog with these settings, checked as posx does."""
    shape = model_shape(config, context)
    name, variant = VARIANTS.get(name, (name, {}))
    config_values = {"name": name, **TINY.get(name, {}), **variant, **settings}
    return components.make_scheme(complete_scheme(config_values, shape, catalog), shape, catalog)


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
    """A decoder with this scheme and its ``settings``. ``sharp=False``: with posx's usual initial values."""
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
    """Set weights so large that attention is peaked and every part of the model affects the output."""
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=draw)
        own = name.rpartition(".")[2] if name.startswith("scheme.") else ""
        if own in ("r1", "r2"):  # of kerple: away from their limits
            parameter.copy_(0.1 + 0.5 * noise.abs().clamp(max=3))
        elif own == "s":  # of ssmax: near its initial value, because logits are multiplied by s·ln n
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
    assert actual.shape == expected.shape, f"{tuple(actual.shape)} and {tuple(expected.shape)}"
    difference = (actual.detach().double() - expected.detach().double()).abs()
    assert not difference.isnan().any()
    return float(difference.max())
