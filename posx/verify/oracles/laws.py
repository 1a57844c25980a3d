"""What every scheme keeps to, whoever wrote it: for ``posx verify``; tests/contract looks closer.

Small models with sharp weights (``small.py``), or one layer of attention (``comparisons.py``). Each property gives a
difference that must not be above its tolerance, or None where it says nothing about a scheme.
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
LENGTH = 29  # beyond the training context, no multiple of a block
# What a model of one layer wants for LONG tokens.
FAR: dict[str, dict[str, Any]] = {"randomized": {"longest": LONG}, "layers": {"layers": ["rope"]}}


@dataclass(frozen=True)
class Property:
    """``difference`` of a scheme by name, and a folder of own configs with trust (see ``small.make_scheme``)."""

    text: str
    difference: Callable[[str, Any], float | None]
    tolerance: float


def _longest(model: Any) -> int:
    last = model.scheme.last_position
    return LENGTH if last is None else min(LENGTH, last + 1)


@torch.no_grad()
def causality(name: str, catalog: Catalog) -> float:
    """Other tokens from one place on: outputs before it keep every bit, in products of the same shape."""
    model = make_model(name, catalog=catalog)
    tokens, worst = random_tokens(_longest(model)), 0.0
    for how in ({}, {"backend": "dense"}, {"block": 3}):
        whole = model(tokens, **how)
        for kept in (1, 5, CONTEXT - 1, len(tokens[0]) - 1):
            changed = tokens.clone()
            changed[:, kept:] = (changed[:, kept:] + 7) % VOCAB
            worst = max(worst, gap(model(changed, **how)[:, :kept], whole[:, :kept]))
    return worst


@torch.no_grad()
def blocks(name: str, catalog: Catalog) -> float:
    """A block of queries, or the last of them alone, as in the whole."""
    model = make_model(name, catalog=catalog)
    tokens = random_tokens(_longest(model))
    whole = model(tokens, backend="dense")
    found = [gap(model(tokens, block=block), whole) for block in (1, 3, 7, 64)]
    return max(*found, gap(model(tokens), whole), gap(model(tokens, tail=5), whole[:, -5:]))


@torch.no_grad()
def kernel(name: str, catalog: Catalog) -> float | None:
    """The closure called for one pair at a time by FlexAttention, uncompiled, as with ranges of indices."""
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
        warnings.simplefilter("ignore", UserWarning)  # that it is not compiled, as it shall not be
        found = flex(q, k, layer.v, closure, seen_blocks(layer.length, [], layer.q.device))
    return gap(found, layer.attended(backend="dense"))


def gradients(name: str, catalog: Catalog) -> float:
    """How many numbers of the scheme, and how many of the other matrices as a whole, a training step leaves out.

    A step at the training length, from the initial values and from sharp ones: a unit may sleep in one of them.
    """
    reached: dict[str, torch.Tensor] = {}
    for sharp in (False, True):
        model = make_model(name, catalog=catalog, sharp=sharp).train()
        tokens = random_tokens(CONTEXT + 1, batch=8)
        hidden = model.readable(model(tokens[:, :-1])).flatten(0, 1)
        head_cross_entropy(hidden, model.head_weight, tokens[:, 1:].flatten(), torch.float32).backward()
        for key, parameter in model.named_parameters():
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            here = (grad != 0) & grad.isfinite()
            here = here if key.startswith("scheme.") else here.any()
            reached[key] = here | reached.get(key, torch.zeros_like(here))
    return float(sum(int((~here).sum()) for here in reached.values()))


def slopes(name: str, catalog: Catalog, **shape: Any) -> float:
    """Gradients beside central differences of the loss, for the scheme's numbers and for all others; relative.

    A step along the gradient's signs, so that the slope is large beside its rounding. Of two lengths of it the better
    one counts: the longer has more curvature in it, and meets more edges, the shorter more rounding. ``shape``: of the
    model.
    """
    model, worst = make_model(name, catalog=catalog, **shape).train(), 0.0
    tokens = random_tokens(CONTEXT + 1)

    def loss() -> torch.Tensor:
        logits = model.logits(model(tokens[:, :-1])).double()
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum")

    for own in (True, False):
        chosen = [p for key, p in model.named_parameters() if key.startswith("scheme.") == own]
        if not chosen:
            continue
        gradients = torch.autograd.grad(loss(), chosen, allow_unused=True)
        pairs = [(p, g.sign()) for p, g in zip(chosen, gradients, strict=True) if g is not None]
        size = math.sqrt(sum(float(d.square().sum()) for _, d in pairs)) or 1.0
        slope = sum(float(g.abs().sum()) for g in gradients if g is not None) / size
        found = []
        for step in (1e-2, 1e-3):
            ends = []
            with torch.no_grad():
                for move in (step, -2 * step):
                    for p, d in pairs:
                        p.add_(d, alpha=move / size)
                    ends.append(float(loss()))
                for p, d in pairs:
                    p.add_(d, alpha=step / size)
            found.append(abs((ends[0] - ends[1]) / (2 * step) - slope) / max(abs(slope), 1e-9))
        worst = max(worst, min(found))
    return worst


@torch.no_grad()
def far(name: str, catalog: Catalog) -> float | None:
    """The last 64 queries against 16,384 keys in bf16, beside float32: finite, and off by some of its roundings."""
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
    Property("blocks of queries and the last alone = the whole", blocks, TOLERANCE),
    Property("dense = FlexAttention, uncompiled", kernel, TOLERANCE),
    Property("gradients reach every parameter (numbers left out)", gradients, 0.0),
    Property("gradients = slopes of the loss", slopes, 0.02),
    # Outputs of size 1 to 4, products of bf16 values: 2^-9 each.
    Property("64 queries × 16,384 keys in bf16 = float32", far, 0.15),
)
