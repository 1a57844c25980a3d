"""Properties that every scheme must have, including user-defined ones: for ``posx verify``. tests/contract has more.

They use small models with sharp weights (``small_models.py``) or one layer of attention (``layer.py``). Each property
returns a difference that must not exceed its tolerance, or None if it does not apply to a scheme.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from posx.config.catalog import Catalog
from posx.extensions.base import NONE
from posx.models.attention.context import Call
from posx.models.attention.dispatch import plan
from posx.models.attention.flex import flex, seen_blocks
from posx.models.loss import head_cross_entropy
from posx.verify.oracles.layer import LAYER, TOLERANCE, Layer
from posx.verify.oracles.small_models import CONTEXT, VOCAB, gap, make_model, random_tokens

LONG = 16384
LENGTH = 29  # above the training context, and not a multiple of a block
# Settings for a model of one layer with LONG tokens.
FAR: dict[str, dict[str, Any]] = {"randomized": {"longest": LONG}, "layers": {"layers": ["rope"]}}


@dataclass(frozen=True)
class Property:
    """``difference(name, catalog)`` for the scheme of this name in the catalog, see ``small_models.make_scheme``."""

    text: str
    difference: Callable[[str, Any], float | None]
    tolerance: float


def _longest(model: Any) -> int:
    last = model.scheme.last_position
    return LENGTH if last is None else min(LENGTH, last + 1)


@torch.no_grad()
def causality(name: str, catalog: Catalog) -> float:
    """Changing later tokens must not change any bit of the outputs before them, in products of the same shape."""
    model = make_model(name, catalog=catalog)
    tokens, worst = random_tokens(_longest(model)), 0.0
    for how in ({}, {"backend": "dense"}, {"block": 3}):
        whole = model(tokens, **how)
        for n in (1, 5, CONTEXT - 1, len(tokens[0]) - 1):
            changed = tokens.clone()
            changed[:, n:] = (changed[:, n:] + 7) % VOCAB
            worst = max(worst, gap(model(changed, **how)[:, :n], whole[:, :n]))
    return worst


@torch.no_grad()
def blocks(name: str, catalog: Catalog) -> float:
    """A block of queries, or only the last queries, must give the same outputs as all queries together."""
    model = make_model(name, catalog=catalog)
    tokens = random_tokens(_longest(model))
    whole = model(tokens, backend="dense")
    by_block = [gap(model(tokens, block=block), whole) for block in (1, 3, 7, 64)]
    return max(*by_block, gap(model(tokens), whole), gap(model(tokens, tail=5), whole[:, -5:]))


@torch.no_grad()
def kernel(name: str, catalog: Catalog) -> float | None:
    """The closure must give the same result for single pairs (uncompiled FlexAttention) as for ranges of indices."""
    layer = Layer(name, 3, 8, CONTEXT, catalog=catalog)
    scheme = layer.scheme.at(LAYER)
    if scheme.capabilities.needs_logits or scheme.capabilities.has_own_attention:
        return None
    flow = replace(plan(scheme, layer.at, NONE, Call(2, layer.heads)), layer=LAYER if scheme is layer.scheme else 0).at(
        layer.x
    )
    q, k = scheme.rotate(layer.q, layer.k, flow.site(0, layer.length))
    site = flow.site(0, layer.length, q, k)
    closure = scheme.bias(site) if scheme.capabilities.has_bias else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # warns that it is not compiled, which is intended
        out = flex(q, k, layer.v, closure, seen_blocks(layer.length, [], layer.q.device))
    return gap(out, layer.attended(backend="dense"))


def gradients(name: str, catalog: Catalog) -> float:
    """Parameters without a gradient in training: the number of elements of the scheme's, and of tensors of others.

    The result of two steps at the training length, from the initial and from sharp weights: a rectified unit may be
    inactive in one of them.
    """
    reached: dict[str, torch.Tensor] = {}
    for sharp in (False, True):
        model = make_model(name, catalog=catalog, sharp=sharp).train()
        tokens = random_tokens(CONTEXT + 1, batch=8)
        hidden = model.readable(model(tokens[:, :-1])).flatten(0, 1)
        head_cross_entropy(hidden, model.head_weight, tokens[:, 1:].flatten(), torch.float32).backward()
        for key, parameter in model.named_parameters():
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            nonzero = (grad != 0) & grad.isfinite()
            nonzero = nonzero if key.startswith("scheme.") else nonzero.any()
            reached[key] = nonzero | reached.get(key, torch.zeros_like(nonzero))
    return float(sum(int((~nonzero).sum()) for nonzero in reached.values()))


def slopes(name: str, catalog: Catalog, **shape: Any) -> float:
    """Gradients compared with central differences of the loss, for the scheme's parameters and all others; relative.

    The step follows the signs of the gradient, so that the slope is large compared with rounding. The better of two
    step sizes counts: the larger one has more curvature and crosses more kinks, the smaller one has more rounding.
    ``shape``: of the model.
    """
    model, worst = make_model(name, catalog=catalog, **shape).train(), 0.0
    tokens = random_tokens(CONTEXT + 1)

    def loss() -> torch.Tensor:
        logits = model.logits(model(tokens[:, :-1])).double()
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum")

    for own in (True, False):
        parameters = [p for key, p in model.named_parameters() if key.startswith("scheme.") == own]
        if not parameters:
            continue
        gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
        pairs = [(p, g.sign()) for p, g in zip(parameters, gradients, strict=True) if g is not None]
        size = math.sqrt(sum(float(d.square().sum()) for _, d in pairs)) or 1.0
        slope = sum(float(g.abs().sum()) for g in gradients if g is not None) / size
        errors = []
        for step in (1e-2, 1e-3):
            ends = []
            with torch.no_grad():
                for move in (step, -2 * step):
                    for p, d in pairs:
                        p.add_(d, alpha=move / size)
                    ends.append(float(loss()))
                for p, d in pairs:
                    p.add_(d, alpha=step / size)
            errors.append(abs((ends[0] - ends[1]) / (2 * step) - slope) / max(abs(slope), 1e-9))
        worst = max(worst, min(errors))
    return worst


@torch.no_grad()
def far(name: str, catalog: Catalog) -> float | None:
    """The last 64 queries over 16,384 keys: bf16 must be finite and equal float32 up to bf16 rounding."""
    model = make_model(name, n_layers=1, d_model=16, n_heads=2, catalog=catalog, **FAR.get(name, {}))
    last = model.scheme.last_position
    if last is not None and last + 1 < LONG:
        return None
    tokens = random_tokens(LONG, batch=1)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(tokens, tail=64)
    return gap(rounded, model(tokens, tail=64))


PROPERTIES = (
    Property("causality: later tokens change no bit", causality, 0.0),
    Property("blocks of queries, last queries = all queries", blocks, TOLERANCE),
    Property("dense = FlexAttention, uncompiled", kernel, TOLERANCE),
    Property("gradients reach every parameter (number missing)", gradients, 0.0),
    Property("gradients = finite differences of the loss", slopes, 0.02),
    # Outputs of size 1 to 4; each product of bf16 values has an error of 2^-9.
    Property("64 queries × 16,384 keys in bf16 = float32", far, 0.15),
)
