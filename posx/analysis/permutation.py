"""`posx explain permutation`: can attention distinguish "dog bites man" from "man bites dog"?

One layer of attention with random weights reads both sentences. The output of a word is a weighted sum over all words.
Without a mask and without positions it depends only on which words there are, not on their order, so both sentences
give the same three vectors. A positional scheme changes that, and so does the causal mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
ROUNDING = 1e-5  # relative to the size of the outputs; smaller differences come from the order of additions


@dataclass(frozen=True)
class Permuted:
    """The largest difference of a word's outputs in the two sentences, relative to their size.

    ``unmasked`` is None for a scheme that requires the causal mask.
    """

    name: str
    unmasked: float | None
    masked: float


@torch.no_grad()
def permutation(scheme: Scheme, name: str, seed: int = 0) -> Permuted:
    """Run both sentences through one layer, with this scheme at its initial values."""
    for key, parameter in scheme.named_parameters():
        scheme.initialise(key, parameter, generator(seed, key))
    scheme = scheme.at(0)
    width = scheme.token_width
    vectors = torch.randn(len(SENTENCE), width, generator=generator(seed, "words"))
    weights = torch.randn(3, SHAPE.d_model, SHAPE.d_model, generator=generator(seed, "weights")) / SHAPE.d_model**0.5

    def difference(masked: bool) -> float:
        forward, backward = (outputs(scheme, x, weights, masked) for x in (vectors, vectors.flip(0)))
        return float((forward - backward.flip(0)).abs().max() / forward.square().mean().sqrt())

    # A scheme that counts or sums the tokens before the query is defined for causal attention only.
    causal = not scheme.capabilities.by_position or scheme.capabilities.has_own_attention
    return Permuted(name, None if causal else difference(masked=False), difference(masked=True))


def outputs(scheme: Scheme, vectors: Tensor, weights: Tensor, masked: bool) -> Tensor:
    """Outputs [T, H · D] for token vectors [T, token_width]; ``weights``: W_q, W_k and W_v [3, C, H · D]."""
    positions = scheme.positions(len(vectors))
    x = scheme.embed(vectors[None], positions)
    q, k, v = ((x @ w).unflatten(-1, (SHAPE.n_heads, SHAPE.head_dim)).transpose(1, 2) for w in weights)
    flow = replace(plan(scheme, positions, NONE, Call(1, SHAPE.n_heads)), x=x)
    if masked:
        out = attend(q, k, v, flow)
    else:
        q, k = flow.rotated(q, k)
        # Placed after all keys, every query sees all of them.
        site = replace(flow.site(0, len(positions), q, k), q_start=len(positions))
        closure = scheme.bias(site) if scheme.capabilities.has_bias else None
        addend = dense_addend(site, closure, [], SHAPE.n_heads)
        out = weights_of(flow, q @ k.mT * SHAPE.head_dim**-0.5 + addend, site) @ v
    return out.transpose(1, 2).flatten(2)[0]


def permutations(names: Sequence[str] | None, catalog: Catalog) -> list[Permuted]:
    """The result for each of these schemes, by default all. Raises PosxError."""
    known = known_schemes(catalog)
    for name in names or ():
        if name not in known:
            raise unknown("scheme", name, known)
    results = []
    for name in names or ["nope", *sorted(set(known) - {"nope"})]:
        scheme = make_scheme(complete_scheme(name, SHAPE, catalog), SHAPE, catalog)
        results.append(permutation(scheme, name))
    return results


def page(results: Sequence[Permuted]) -> Page:
    """The table of `posx explain permutation`."""

    def cell(value: float | None) -> str:
        if value is None:
            return DASH
        return "the same set" if value < ROUNDING else f"differ by {value:.2g}"

    sentence = " ".join(SENTENCE)
    return Page(
        f'"{sentence}" and "{" ".join(reversed(SENTENCE))}"',
        "outputs of one attention layer for the same three words",
        ["scheme", "without a mask", "with the causal mask"],
        [[entry(text) for text in (r.name, cell(r.unmasked), cell(r.masked))] for r in results],
        [
            "the same set: each word has the same output in both sentences, up to rounding. Otherwise: the largest "
            "difference relative to the size of the outputs.",
            "Weights are random; learned schemes have their initial values.",
            f"{DASH}: the scheme counts or sums the tokens before the query, so it is not defined without a mask.",
        ],
        left=1,
    )
