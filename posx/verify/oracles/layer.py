"""A comparison, and the layer of attention that it uses.

The layer is the second of two. q, k and x are standard normal, with q and k times 2, so that logits reach 10. Outputs
have size 1 to 3; float32 rounding changes them by about 1e-6, a wrong angle, slope or bucket by 0.01 to 1. TOLERANCE
allows for some rounding. Some numbers of heads are not powers of two; lengths are below, at and above the training
length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from posx.config.schema import ModelConfig
from posx.extensions.base import NONE, Applied
from posx.models.attention.context import Call
from posx.models.attention.dispatch import attend, plan
from posx.verify.oracles import papers as written
from posx.verify.oracles.small_models import CONTEXT, gap, make_scheme

TOLERANCE = 2e-5
FAR = 5e-5  # for schemes with random parameters, whose logits reach 40
SHAPES = ((1, 4), (3, 8), (4, 16), (6, 8))  # number of heads and head dimension
LENGTHS = (1, 5, CONTEXT, 2 * CONTEXT + 1)
LAYER = 1  # the second of two
Pairs = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Comparison:
    """``pairs``: outputs of posx and of the oracle, which must agree to the absolute ``tolerance``.

    The name of an oracle from a package starts with the package's name.
    """

    name: str  # of the scheme or extension
    oracle: str
    pairs: Callable[[], Pairs]
    tolerance: float = TOLERANCE
    kind: str = "scheme"

    @property
    def needs(self) -> str:
        """The package that the oracle comes from, if any."""
        first = self.oracle.split()[0].rstrip(",")
        return first if first in ("transformers", "x-transformers") else ""

    @torch.no_grad()
    def difference(self) -> float:
        """The largest absolute difference over all cases."""
        return max(gap(ours, theirs) for ours, theirs in self.pairs())


class Layer:
    """A scheme with random parameters, and the inputs of one layer of attention: a batch of two."""

    def __init__(self, name: str, heads: int, width: int, length: int, /, **settings: Any):
        config = ModelConfig(d_model=heads * width, n_heads=heads, n_layers=2)
        self.scheme = make_scheme(name, config, **settings)
        draw = torch.Generator().manual_seed(heads * 1000 + length)
        for parameter in self.scheme.parameters():
            nn.init.normal_(parameter, generator=draw)
        self.q, self.k = 2 * torch.randn(2, 2, heads, length, width, generator=draw)
        self.v = torch.randn(2, heads, length, width, generator=draw)
        self.x = torch.randn(2, length, heads * width, generator=draw)
        self.heads, self.width, self.length = heads, width, length
        self.at = self.scheme.positions(length)  # positions of the tokens
        self.last: int | None = None  # the number of queries, from the end, that the oracle computes; None: all

    def own(self, name: str) -> Tensor:
        """A parameter of the scheme; for parameters per layer, that of this layer."""
        return self.scheme.get_parameter(name).detach()

    @torch.no_grad()
    def attended(
        self, last: int | None = None, block: int | None = None, extension: Applied = NONE, **how: Any
    ) -> Tensor:
        """posx's attention [B, H, T, D] for the ``last`` queries only, in blocks of ``block`` queries."""
        n = last or self.length
        scheme = self.scheme.at(LAYER)
        layer = LAYER if scheme is self.scheme else 0
        call = Call(len(self.q), self.heads, None if n == self.length else n, block, **how)
        flow = replace(plan(scheme, self.at, extension, call), layer=layer).at(self.x)
        return attend(self.q[:, :, -n:], self.k, self.v, flow)


def by_layer(
    name: str,
    expected: Callable[[Layer], Tensor],
    settings: Sequence[dict[str, Any]] = ({},),
    shapes: Any = SHAPES,
    far: Sequence[int] = (),
) -> Callable[[], Pairs]:
    """Attention of all queries, in blocks, and of the last queries only, compared with ``expected``.

    At the lengths ``far``, only the last two queries of a narrow model, because the oracle's loops are slow.
    """

    def pairs() -> Pairs:
        for own in settings:
            for heads, width in shapes:
                for length in LENGTHS:
                    layer = Layer(name, heads, width, length, **own)
                    theirs, tail = expected(layer), min(3, length)
                    yield layer.attended(), theirs
                    yield layer.attended(block=3), theirs
                    yield layer.attended(last=tail), theirs[:, :, -tail:]
            for length in far:
                layer = Layer(name, 2, 8, length, **own)
                layer.last = 2
                yield layer.attended(last=2), expected(layer)

    return pairs


def added(bias: Callable[[Layer], written.Addend]) -> Callable[[Layer], Tensor]:
    """Attention with a bias added to its logits."""
    return lambda a: written.attention(a.q, a.k, a.v, bias(a), last=a.last)


def by_distance(bias: Callable[[Layer, int, float], float]) -> Callable[[Layer], Tensor]:
    """The same for a bias that depends only on head and distance."""
    return added(lambda a: lambda b, h, i, j: bias(a, h, float(a.at[i] - a.at[j])))


def turned(frequencies: Callable[[Layer], list[float]]) -> Callable[[Layer], Tensor]:
    """Attention with rotated queries and keys."""

    def expected(a: Layer) -> Tensor:
        q, k = (written.rotated(x, a.at.tolist(), frequencies(a)) for x in (a.q, a.k))
        return written.attention(q, k, a.v, last=a.last)

    return expected
