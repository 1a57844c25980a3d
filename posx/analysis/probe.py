"""Probes of a scheme: calls its hooks the group attention does, with known content.

Results depend only on what the hooks return, never on the name of a scheme.

Shapes: B draws of content, T tokens, H heads, D the width of a head, C the width of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from posx.extensions.base import NONE, Applied
from posx.models.attention.blockwise import final_logits, group_pairs, logits_of, weights_of
from posx.models.attention.context import Call
from posx.models.attention.dispatch import plan
from posx.runtime.generator import generator
from posx.schemes.base import Scheme, Site

TOKEN_STD = 0.02  # standard deviation of token vectors, as in the model
MOST_ROWS = 256  # of a matrix of all pairs; a longer one is subsampled


@torch.no_grad()
def start(scheme: Scheme, seed: int) -> None:
    """Give the scheme the initial values of a training run with this seed."""
    for name, parameter in scheme.named_parameters():
        scheme.initialise(name, parameter, generator(seed, f"scheme.{name}"))


@dataclass(frozen=True)
class Part:
    """Layers (from 0) whose schemes have the same class and settings, and the scheme of the first of them."""

    scheme: Scheme
    layers: tuple[int, ...]


def parts(scheme: Scheme) -> list[Part]:
    """The layers of the model, grouped by class and settings of their scheme."""
    groups: list[Part] = []
    for layer in range(scheme.shape.n_layers):
        own = scheme.at(layer)
        for index, part in enumerate(groups):
            if type(part.scheme) is type(own) and part.scheme.config == own.config:
                groups[index] = replace(part, layers=(*part.layers, layer))
                break
        else:
            groups.append(Part(own, (layer,)))
    return groups


# ---------------------------------------------------------------- content


@dataclass(frozen=True)
class Content:
    """q and k [B, H, T, D] before the rotation, and x [B, T, C], the layer input that they come from."""

    q: Tensor
    k: Tensor
    x: Tensor


def content(scheme: Scheme, positions: Tensor, seed: int, draws: int = 1, same: bool = False) -> Content:
    """Random tokens after the scheme's embedding, a norm, and random W_q and W_k, as in the model's first layer.

    ``same``: the same token at all positions, so that only positions distinguish them.
    """
    shape, n = scheme.shape, len(positions)
    tokens = torch.randn(draws, 1 if same else n, scheme.token_width, generator=generator(seed, "words")) * TOKEN_STD
    x = F.layer_norm(scheme.embed(tokens.expand(-1, n, -1), positions), (shape.d_model,))

    def heads(name: str) -> Tensor:
        w = torch.randn(shape.d_model, shape.n_heads * shape.head_dim, generator=generator(seed, name)).double()
        # In float32, equal rows could differ in their last bit, depending on their index in the product.
        out = (x.double() @ w * shape.d_model**-0.5).float()
        return out.unflatten(-1, (shape.n_heads, shape.head_dim)).transpose(1, 2)

    return Content(heads("queries"), heads("keys"), x)


def silence(scheme: Scheme, positions: Tensor) -> Content:
    """Content with q·k = 0 for all pairs: without positions, all keys would have the same weight."""
    shape, n = scheme.shape, len(positions)
    zero = torch.zeros(1, shape.n_heads, n, shape.head_dim)
    return Content(zero, zero, torch.zeros(1, n, shape.d_model))


# ---------------------------------------------------------------- attention


class Layer:
    """One layer of a scheme, computed one query at a time, so that memory grows with T.

    Logits and weights come from the attention backend "blocks", with products in float64. ``positions``: after the
    extension.
    """

    def __init__(self, scheme: Scheme, positions: Tensor, inputs: Content, extension: Applied = NONE):
        self.scheme, self.positions = scheme, positions
        call = Call(len(inputs.q), inputs.q.shape[1], block=1)
        flow = replace(plan(scheme, positions, extension, call), x=inputs.x)
        self.groups = [replace(group, precision=torch.float64) for group in group_pairs(inputs.q, inputs.k, flow)]

    def products(self, i: int) -> Tensor:
        """q·k / √D of query i, float32 [B, H, i + 1]."""
        return logits_of(self.groups, i, i + 1, addend=False)[0][:, :, 0]

    def logits(self, i: int) -> Tensor:
        """The logits of query i with biases and rescoring, before any softmax; float32 [B, H, i + 1].

        −inf for hidden keys.
        """
        logits, site, _ = logits_of(self.groups, i, i + 1)
        return final_logits(self.groups[0].flow, logits, site)[:, :, 0]

    def added(self, i: int) -> Tensor:
        """What the scheme adds to the products of query i, [B, H, i + 1]."""
        return self.logits(i) - self.products(i) * self.groups[0].flow.sharpness

    def weights(self, i: int) -> Tensor:
        """The weight that query i gives to each value, [B, H, i + 1]."""
        group = self.groups[0]
        if self.scheme.capabilities.has_own_attention:  # with unit vectors as values, the output is the weights
            q, k = group.q[:, :, i : i + 1], group.k[:, :, : i + 1]
            values = torch.eye(i + 1).expand(*q.shape[:2], -1, -1)
            assert group.flow.backend is not None
            return group.flow.backend.attend(q, k, values, group.flow)[:, :, 0]
        logits, site, _ = logits_of(self.groups, i, i + 1)
        return weights_of(group.flow, logits, site)[:, :, 0]


def grid(n: int) -> Tensor:
    """At most ``MOST_ROWS`` of the tokens 0 .. n − 1, evenly spaced."""
    return torch.arange(0, n, -(-n // MOST_ROWS))


def matrix(layer: Layer, quantity: str) -> Tensor:
    """``logits``, ``added`` or ``weights`` of the first draw on the grid: [H, n, n], NaN for hidden keys."""
    tokens = grid(len(layer.positions))
    out = torch.full((layer.scheme.shape.n_heads, len(tokens), len(tokens)), float("nan"))
    for row, i in enumerate(tokens.tolist()):
        out[:, row, : row + 1] = getattr(layer, quantity)(i)[0][:, tokens[: row + 1]]
    return out.masked_fill_(out == float("-inf"), float("nan"))


# ---------------------------------------------------------------- rotations


def rotated(
    scheme: Scheme, positions: Tensor, vectors: Tensor, extension: Applied = NONE
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of the vectors [N, D]: [n, D], and these rotated as q and as k at every position, [n, H, T, D]."""
    site = Site(positions, positions, shared=scheme.prepare(positions, extension))
    for batch in vectors.split(8):
        everywhere = batch[:, None, None].expand(-1, scheme.shape.n_heads, len(positions), -1)
        yield batch, *scheme.rotate(everywhere, everywhere, site)


def rotates(scheme: Scheme, positions: Tensor) -> bool:
    """Whether queries or keys change with their position."""
    vector = torch.randn(1, scheme.shape.head_dim, generator=generator(0, "one"))
    return any(not torch.equal(x, before[:, None, None].expand_as(x))
               for before, *both in rotated(scheme, positions, vector) for x in both)  # fmt: skip


# ---------------------------------------------------------------- vectors


def position_vectors(scheme: Scheme, positions: Tensor) -> Tensor:
    """What the embedding adds to a token vector or concatenates with it, float32 [T, width]."""
    zeros = torch.zeros(1, len(positions), scheme.token_width)
    table = scheme.embed(zeros, positions)[0].float()
    concatenated = table[:, scheme.token_width :]
    if concatenated.shape[1] and not table[:, : scheme.token_width].any():
        return concatenated
    if torch.equal(table, table[:1].expand_as(table)):  # zeros show no effect of positions: ones may
        table = scheme.embed(zeros + 1, positions)[0].float()
    return table
