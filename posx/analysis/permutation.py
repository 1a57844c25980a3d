"""`posx explain permutation`: does attention know "dog bites man" from "man bites dog"?

One layer of attention with random weights reads both sentences. A word's output is what it gathers from all words, so
that without a mask and without positions it depends on which words there are, and not on their order: both sentences
give the same three vectors. A scheme is what changes that, and so is the causal mask.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from posx.config.catalog import Catalog
from posx.errors import unknown
from posx.extensions.base import NONE
from posx.models.attention.blockwise import weights_of
from posx.models.attention.context import Call, dense_addend
from posx.models.attention.dispatch import attend, plan
from posx.models.build import complete_scheme, make_scheme
from posx.models.classes import known_schemes
from posx.reporting.table import Page, entry
from posx.runtime.generator import generator
from posx.schemes.base import ModelShape, Scheme
from posx.utils.format import DASH

SENTENCE = ("dog", "bites", "man")
SHAPE = ModelShape(d_model=64, n_heads=4, head_dim=16, n_layers=4, context=64)
ROUNDING = 1e-5  # of the outputs' size: below, two sets of vectors are the same but for the order of additions


@dataclass(frozen=True)
class Permuted:
    """How far a word's outputs in the two sentences lie apart, over their size, at most; None: not without a mask."""

    name: str
    unmasked: float | None
    masked: float


@torch.no_grad()
def permutation(scheme: Scheme, name: str, seed: int = 0) -> Permuted:
    """Both sentences through one layer, with this scheme at its initial values."""
    for key, parameter in scheme.named_parameters():
        scheme.initialise(key, parameter, generator(seed, key))
    scheme = scheme.at(0)
    width = scheme.token_width
    vectors = torch.randn(len(SENTENCE), width, generator=generator(seed, "words"))
    weights = torch.randn(3, SHAPE.d_model, SHAPE.d_model, generator=generator(seed, "weights")) / SHAPE.d_model**0.5

    def apart(masked: bool) -> float:
        one, other = outputs(scheme, vectors, weights, masked), outputs(scheme, vectors.flip(0), weights, masked)
        return float((one - other.flip(0)).abs().max() / one.square().mean().sqrt())

    # Where a scheme counts or adds up the tokens before the query, the past is in its definition.
    causal = not scheme.capabilities.by_position or scheme.capabilities.has_own_attention
    return Permuted(name, None if causal else apart(masked=False), apart(masked=True))


def outputs(scheme: Scheme, vectors: Tensor, weights: Tensor, masked: bool) -> Tensor:
    """[T, H · D] of token vectors [T, token_width] under W_q, W_k and W_v [3, C, H · D]."""
    positions = scheme.positions(len(vectors))
    x = scheme.embed(vectors[None], positions)
    q, k, v = ((x @ w).unflatten(-1, (SHAPE.n_heads, SHAPE.head_dim)).transpose(1, 2) for w in weights)
    flow = replace(plan(scheme, positions, NONE, Call(1, SHAPE.n_heads)), x=x)
    if masked:
        out = attend(q, k, v, flow)
    else:
        q, k = flow.rotated(q, k)
        # Queries behind all keys see all of them.
        site = replace(flow.site(0, len(positions), q, k), q_start=len(positions))
        closure = scheme.bias(site) if scheme.capabilities.has_bias else None
        addend = dense_addend(site, closure, [], SHAPE.n_heads)
        out = weights_of(flow, q @ k.mT * SHAPE.head_dim**-0.5 + addend, site) @ v
    return out.transpose(1, 2).flatten(2)[0]


def permutations(names: Sequence[str] | None, catalog: Catalog) -> list[Permuted]:
    """For these schemes, by default all. Raises PosxError."""
    known = known_schemes(catalog)
    for name in names or ():
        if name not in known:
            raise unknown("scheme", name, known)
    found = []
    for name in names or ["nope", *sorted(set(known) - {"nope"})]:
        scheme = make_scheme(complete_scheme(name, SHAPE, catalog), SHAPE, catalog)
        found.append(permutation(scheme, name))
    return found


def page(found: Sequence[Permuted]) -> Page:
    """What `posx explain permutation` prints."""

    def cell(value: float | None) -> str:
        if value is None:
            return DASH
        return "the same set" if value < ROUNDING else f"differ by {value:.2g}"

    sentence = " ".join(SENTENCE)
    return Page(
        f'"{sentence}" and "{" ".join(reversed(SENTENCE))}"',
        "the outputs of one layer of attention for the same three words",
        ["scheme", "without a mask", "with the causal mask"],
        [[entry(text) for text in (one.name, cell(one.unmasked), cell(one.masked))] for one in found],
        [
            "The same set: each word has the same output in both sentences, to rounding. Else: the largest difference, "
            "over the size of the outputs.",
            "Random weights; learned schemes at their initial values, from which training goes on.",
            f"{DASH}: the scheme counts or adds up the tokens before the query, and is not defined without an order.",
        ],
        left=1,
    )


def as_json(found: Sequence[Permuted]) -> str:
    """An array of objects with name, unmasked, masked."""
    return json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False)
