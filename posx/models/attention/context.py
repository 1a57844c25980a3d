"""The state that a forward pass shares between layers, and the addend of the logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from posx.extensions.base import NONE, Applied, Mask
from posx.schemes.base import Capabilities, Closure, Scheme, Site


@dataclass(frozen=True)
class Call:
    """The shape of a call of attention, and the caller's choices.

    ``queries``: number of last tokens that have a query (None: all). ``block``: number of queries at a time, which
    selects the backend "blocks". ``backend``: a backend's name, or "auto" for the fastest one that supports the call.
    """

    batch: int
    n_heads: int
    queries: int | None = None
    block: int | None = None
    backend: str = "auto"


@dataclass(frozen=True)
class Case:
    """The criteria for a backend. ``plain``: nothing is added to the logits, and only the future is masked."""

    capabilities: Capabilities
    plain: bool
    training: bool
    batch: int
    n_heads: int
    head_dim: int
    length: int
    queries: int
    device: torch.device

    @property
    def whole(self) -> bool:
        """Whether every token has a query."""
        return self.queries == self.length

    @property
    def logit_bytes(self) -> int:
        """Size of a layer's float32 logits."""
        return self.batch * self.n_heads * self.length * self.length * 4


class Backend:
    """An implementation of causal attention. All give the same numbers, to rounding; each has its own file."""

    name: str

    def serves(self, case: Case) -> bool:
        """Whether it supports this case."""
        return True

    def instead(self, case: Case) -> str:
        """The backend to try next if it does not support the case."""
        return "blocks"

    def prepare(self, flow: Flow, n_heads: int) -> Flow:
        """Add what all layers share to the flow."""
        return flow

    def attend(self, q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
        """Output [B, H, Tq, D] for rotated q [B, H, Tq, D] and k, and v, [B, H, Tk, D].

        The queries are the last Tq of the Tk tokens.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Flow:
    """The state that a forward pass shares between layers.

    ``positions`` [T] or [B, T] are after the extension; ``shared`` is from the scheme's ``prepare``. ``addend``
    [1 or B, 1 or H, T, T] is −inf over the future, if it is computed once for all layers; ``by_distance`` (see sdpa.py)
    is a compact form of it. ``plain``: nothing is added and only the future is masked. ``block``: number of queries at
    a time in the backend "blocks" (None: by memory). ``layer`` and its input ``x`` [B, T, C] are set per layer (see
    :meth:`at`). ``temperature`` [T] multiplies queries (see :meth:`sharpened`), ``sharpness`` multiplies logits.
    ``branches`` are flows for pairs whose positions an extension changes; their queries are at ``query_positions`` [T].
    """

    scheme: Scheme
    positions: Tensor
    shared: Any = None
    extension: Applied = NONE
    addend: Tensor | None = None
    by_distance: Tensor | None = None
    plain: bool = False
    backend: Backend | None = None
    block: int | None = None
    seen: Any = None  # flex: the block mask
    layer: int = 0
    x: Tensor | None = None
    temperature: Tensor | None = None
    sharpness: float = 1.0
    query_positions: Tensor | None = None  # None: equal to the keys' positions
    branches: tuple[tuple[Mask, Flow], ...] = ()

    def at(self, x: Tensor) -> Flow:
        """The flow of the layer whose input, after its norm, is ``x``."""
        return replace(self, x=x) if self.scheme.capabilities.per_layer else self

    def rotated(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate a layer's q [B, H, Tq, D] and k [B, H_kv, Tk, D], and apply the temperature."""
        queries, keys = self.scheme.rotate(q, k, self.site(k.shape[2] - q.shape[2], k.shape[2]))
        return self.sharpened(queries), keys

    def sharpened(self, q: Tensor) -> Tensor:
        """Multiply queries [B, H, Tq, D] of the last Tq tokens by the temperature."""
        if self.temperature is None:
            return q
        return (q * self.temperature[-q.shape[2] :, None]).to(q.dtype)

    def site(self, start: int, end: int, q: Tensor | None = None, k: Tensor | None = None) -> Site:
        """The site of queries at key indices ``start`` to ``end``, and all keys before ``end``."""
        queries = self.positions if self.query_positions is None else self.query_positions
        return Site(
            q_pos=queries[..., start:end],
            k_pos=self.positions[..., :end],
            q_start=start,
            shared=self.shared,
            layer=self.layer,
            q=q,
            k=k,
            x=None if self.x is None else self.x[:, :end],
        )


def addend_of(q: Tensor, k: Tensor, flow: Flow, start: int, end: int) -> Tensor:
    """The addend for the logits of queries ``start`` to ``end``, −inf over the future."""
    first = k.shape[2] - q.shape[2]
    last = first + end
    site = flow.site(first + start, last, q[:, :, start:end], k[:, :, :last])
    closure = flow.scheme.bias(site) if flow.scheme.capabilities.has_bias else None
    return dense_addend(site, closure, flow.extension.masks(), q.shape[1])


def seen_by(mask: Mask, start: int, end: int, batch: int, n_heads: int, device: torch.device) -> Tensor:
    """Evaluate a mask for queries at key indices ``start`` to ``end`` and all keys before ``end``: bool, 4 axes."""
    b, h, i, j = indices(batch, n_heads, end - start, end, device)
    return mask(b, h, i + start, j)


def indices(batch: int, n_heads: int, n_queries: int, n_keys: int, device: torch.device) -> tuple[Tensor, ...]:
    """Index tensors b [B, 1, 1, 1], h [H, 1, 1], i [Tq, 1] and j [Tk] for closures and masks."""
    b, h, i, j = (torch.arange(n, device=device) for n in (batch, n_heads, n_queries, n_keys))
    return b[:, None, None, None], h[:, None, None], i[:, None], j


def dense_addend(site: Site, closure: Closure | None, masks: list[Mask], n_heads: int) -> Tensor:
    """The closure's value for all pairs, and −inf where a key is masked or in the future.

    float32, [1, 1, Tq, Tk] without a closure, else [1 or B, H, Tq, Tk].
    """
    device = site.q_pos.device
    batch = site.q_pos.shape[0] if site.q_pos.ndim == 2 else 1
    if site.q is not None:
        batch = len(site.q)
    b, h, i, j = indices(batch, n_heads, site.q_pos.shape[-1], site.k_pos.shape[-1], device)
    seen = i + site.q_start >= j
    for mask in masks:
        seen = seen & mask(b, h, i + site.q_start, j)
    if closure is None:
        addend = torch.zeros((), device=device)
    else:
        addend = closure(b, h, i, j).float()
    addend = torch.where(seen, addend, float("-inf"))
    return addend.reshape((1,) * (4 - addend.ndim) + addend.shape)
