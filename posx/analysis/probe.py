"""A scheme asked what it does: its hooks called as attention calls them, with content that is known.

What is asked for is found by calling hooks and looking at what comes back, never by the name of a scheme.

Shapes: B draws of content, T tokens, H heads, D the width of a head, C the width of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from posx.extensions.base import NONE, Applied
from posx.models.attention.blockwise import final_logits, logits_of, ways_of, weights_of
from posx.models.attention.context import Call
from posx.models.attention.dispatch import plan
from posx.runtime.generator import generator
from posx.schemes.base import Scheme, Site

TOKEN_STD = 0.02  # of token vectors, as the model draws them
MOST_ROWS = 256  # of a matrix of all pairs; a longer one is thinned out


@torch.no_grad()
def start(scheme: Scheme, seed: int) -> None:
    """The initial values that a training with this seed begins with."""
    for name, parameter in scheme.named_parameters():
        scheme.initialise(name, parameter, generator(seed, f"scheme.{name}"))


@dataclass(frozen=True)
class Part:
    """Layers (from 0) whose attention has the same kind of scheme, with the same settings; the first one's scheme."""

    scheme: Scheme
    layers: tuple[int, ...]


def parts(scheme: Scheme) -> list[Part]:
    """The layers of the model, those that are alike together."""
    found: list[Part] = []
    for layer in range(scheme.shape.n_layers):
        own = scheme.at(layer)
        for place, one in enumerate(found):
            if type(one.scheme) is type(own) and one.scheme.config == own.config:
                found[place] = replace(one, layers=(*one.layers, layer))
                break
        else:
            found.append(Part(own, (layer,)))
    return found


# ---------------------------------------------------------------- content


@dataclass(frozen=True)
class Content:
    """q and k [B, H, T, D] before the rotation, and x [B, T, C], what they were made of."""

    q: Tensor
    k: Tensor
    x: Tensor


def content(scheme: Scheme, positions: Tensor, seed: int, draws: int = 1, same: bool = False) -> Content:
    """Random tokens through the scheme's embedding, a norm, and random W_q and W_k: of the model's first layer.

    ``same``: one token at all positions, so that only positions can tell them apart.
    """
    shape, n = scheme.shape, len(positions)
    tokens = torch.randn(draws, 1 if same else n, scheme.token_width, generator=generator(seed, "words")) * TOKEN_STD
    x = F.layer_norm(scheme.embed(tokens.expand(-1, n, -1), positions), (shape.d_model,))

    def heads(name: str) -> Tensor:
        w = torch.randn(shape.d_model, shape.n_heads * shape.head_dim, generator=generator(seed, name)).double()
        # In float64: else equal rows would differ in their last bit, by their place in the product.
        out = (x.double() @ w * shape.d_model**-0.5).float()
        return out.unflatten(-1, (shape.n_heads, shape.head_dim)).transpose(1, 2)

    return Content(heads("queries"), heads("keys"), x)


def silence(scheme: Scheme, positions: Tensor) -> Content:
    """Content that says nothing: q·k = 0 for all pairs, so that all keys would weigh the same."""
    shape, n = scheme.shape, len(positions)
    zero = torch.zeros(1, shape.n_heads, n, shape.head_dim)
    return Content(zero, zero, torch.zeros(1, n, shape.d_model))


# ---------------------------------------------------------------- attention


class Layer:
    """The first layer that a scheme serves, for one query at a time: memory grows with T.

    Its logits and weights are those of the attention backend "blocks", with products in float64. ``positions`` are
    those after the extension.
    """

    def __init__(self, scheme: Scheme, positions: Tensor, given: Content, extension: Applied = NONE):
        self.scheme, self.positions = scheme, positions
        call = Call(len(given.q), given.q.shape[1], block=1)
        flow = replace(plan(scheme, positions, extension, call), x=given.x)
        self.ways = [replace(way, precision=torch.float64) for way in ways_of(given.q, given.k, flow)]

    def products(self, i: int) -> Tensor:
        """q·k / √D of query i, float32 [B, H, i + 1]."""
        return logits_of(self.ways, i, i + 1, addend=False)[0][:, :, 0]

    def logits(self, i: int) -> Tensor:
        """What the softmax is given, or would be: with the bias in it, and rescored; float32 [B, H, i + 1].

        −inf where a key is not seen.
        """
        logits, site, _ = logits_of(self.ways, i, i + 1)
        return final_logits(self.ways[0].flow, logits, site)[:, :, 0]

    def added(self, i: int) -> Tensor:
        """What the scheme adds to the products of query i."""
        return self.logits(i) - self.products(i) * self.ways[0].flow.sharpness

    def weights(self, i: int) -> Tensor:
        """What query i takes of each value, [B, H, i + 1]."""
        way = self.ways[0]
        if self.scheme.capabilities.has_own_attention:  # values that are the unit vectors come out as their weights
            q, k = way.q[:, :, i : i + 1], way.k[:, :, : i + 1]
            values = torch.eye(i + 1).expand(*q.shape[:2], -1, -1)
            assert way.flow.backend is not None
            return way.flow.backend.attend(q, k, values, way.flow)[:, :, 0]
        logits, site, _ = logits_of(self.ways, i, i + 1)
        return weights_of(way.flow, logits, site)[:, :, 0]


def grid(n: int) -> Tensor:
    """At most ``MOST_ROWS`` of the tokens 0 .. n − 1, evenly spaced."""
    return torch.arange(0, n, -(-n // MOST_ROWS))


def matrix(layer: Layer, what: str) -> Tensor:
    """``logits``, ``added`` or ``weights`` of the first draw at the places of the grid: [H, n, n], NaN where hidden."""
    places = grid(len(layer.positions))
    out = torch.full((layer.scheme.shape.n_heads, len(places), len(places)), float("nan"))
    for row, i in enumerate(places.tolist()):
        out[:, row, : row + 1] = getattr(layer, what)(i)[0][:, places[: row + 1]]
    return out.masked_fill_(out == float("-inf"), float("nan"))


# ---------------------------------------------------------------- rotations


def turned(
    scheme: Scheme, positions: Tensor, vectors: Tensor, extension: Applied = NONE
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Some of the vectors [N, D] at a time: [n, D], and what they are as q and as k at every position, [n, H, T, D]."""
    site = Site(positions, positions, shared=scheme.prepare(positions, extension))
    for some in vectors.split(8):
        everywhere = some[:, None, None].expand(-1, scheme.shape.n_heads, len(positions), -1)
        yield some, *scheme.rotate(everywhere, everywhere, site)


def rotates(scheme: Scheme, positions: Tensor) -> bool:
    """Whether queries or keys are changed by where they stand."""
    one = torch.randn(1, scheme.shape.head_dim, generator=generator(0, "one"))
    return any(not torch.equal(x, some[:, None, None].expand_as(x)) for some, *both in turned(scheme, positions, one)
               for x in both)  # fmt: skip


# ---------------------------------------------------------------- vectors


def position_vectors(scheme: Scheme, positions: Tensor) -> Tensor:
    """What the embedding adds to a token vector or sets beside it, float32 [T, width]."""
    nothing = torch.zeros(1, len(positions), scheme.token_width)
    table = scheme.embed(nothing, positions)[0].float()
    beside = table[:, scheme.token_width :]
    if beside.shape[1] and not table[:, : scheme.token_width].any():
        return beside
    if torch.equal(table, table[:1].expand_as(table)):  # it does something to tokens: to what, where they are all 1?
        table = scheme.embed(nothing + 1, positions)[0].float()
    return table
