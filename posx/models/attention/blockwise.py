"""Attention for some queries at a time, by plain products: the reference, and for all that no kernel knows.

Also where an extension lets some pairs stand elsewhere (its branches): q and k are rotated once for each way in which
a pair can stand, and every logit is taken from the way of its pair, before one softmax over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from posx.extensions.base import Mask
from posx.models.attention.context import Backend, Flow, addend_of, seen_by
from posx.models.attention.dense import products
from posx.schemes.base import Scheme, Site

BLOCK_BYTES = 256 * 2**20  # logits of a block of queries, on a GPU


@dataclass(frozen=True)
class Way:
    """Rotated q [B, H, Tq, D] and k [B, H, Tk, D], and the pairs whose logits they make; None: all that are left.

    ``precision`` is that of their products; None: their own.
    """

    q: Tensor
    k: Tensor
    flow: Flow
    where: Mask | None = None
    precision: torch.dtype | None = None


class Blocks(Backend):
    """For everything that no other backend knows."""

    name = "blocks"

    def attend(self, q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
        return in_blocks([Way(q, k, flow)], v)


def ways_of(q: Tensor, k: Tensor, flow: Flow) -> list[Way]:
    """q [B, H, Tq, D] and k [B, H, Tk, D] as a layer makes them, rotated for each way in which a pair can stand."""
    ways = [Way(*flow.rotated(q, k), flow)]
    for where, branch in flow.branches:
        own = replace(branch, layer=flow.layer, x=flow.x, temperature=flow.temperature)
        ways.append(Way(*own.rotated(q, k), own, where))
    return ways


def in_blocks(ways: Sequence[Way], v: Tensor) -> Tensor:
    """Attention [B, H, Tq, D] over v [B, H, Tk, D]; the first way is that of all pairs that no other one takes."""
    flow, q, k = ways[0].flow, ways[0].q, ways[0].k
    batch, n_heads, n_queries, _ = q.shape
    n_keys = k.shape[2]
    whole = flow.scheme.capabilities.needs_logits or len(ways) > 1 or flow.sharpness != 1
    most = BLOCK_BYTES // 32 if whole else BLOCK_BYTES  # of which it makes many more of the kind
    step = flow.block or max(16, most // (batch * n_heads * n_keys * 4))
    # Without gradients into one output: pieces of it would lie between blocks of memory that grow.
    out: list[Tensor] | Tensor = []
    if not torch.is_grad_enabled():
        out = torch.empty(*q.shape[:3], v.shape[3], dtype=v.dtype, device=v.device)
    for start in range(0, n_queries, step):
        end = min(n_queries, start + step)
        last = n_keys - n_queries + end  # keys past the block's last query are in its future
        if whole:
            found = _by_logits(ways, v[:, :, :last], start, end)
        else:
            found = products(q[:, :, start:end], k[:, :, :last], v[:, :, :last], addend_of(q, k, flow, start, end))
        if isinstance(out, list):
            out.append(found)
        else:
            out[:, :, start:end] = found
    return torch.cat(out, dim=2) if isinstance(out, list) else out


def _by_logits(ways: Sequence[Way], v: Tensor, start: int, end: int) -> Tensor:
    """Queries ``start`` to ``end`` over v [B, H, last, D], where the scheme or an extension needs all of the logits."""
    flow = ways[0].flow
    logits, site, elsewhere = logits_of(ways, start, end)
    with torch.autocast(v.device.type, enabled=False):
        weights = weights_of(flow, logits, site)
        more = _values(flow.scheme, weights, site, elsewhere) if flow.scheme.capabilities.has_values else None
    out = weights.to(v.dtype) @ v
    return out if more is None else out + more.to(out.dtype)


def logits_of(
    ways: Sequence[Way], start: int, end: int, addend: bool = True
) -> tuple[Tensor, Site, list[tuple[Tensor, Site]]]:
    """float32 logits [B, H, end − start, last] of queries ``start`` to ``end``, each pair's from the way it stands in.

    With the bias, and −inf for what is not seen, or without either ``addend``; before :meth:`Scheme.rescore`. Also the
    site of the first way, and for each other one where it applies and its site.
    """
    logits, site = _logits(ways[0], start, end, addend)
    elsewhere: list[tuple[Tensor, Site]] = []
    batch, n_heads, n_queries, last = logits.shape
    for way in ways[1:]:
        assert way.where is not None
        where = seen_by(way.where, last - n_queries, last, batch, n_heads, logits.device)
        if bool(where.any()):
            own, its_site = _logits(way, start, end, addend)
            logits = torch.where(where, own, logits)
            elsewhere.append((where, its_site))
    return logits, site, elsewhere


def weights_of(flow: Flow, logits: Tensor, site: Site) -> Tensor:
    """Attention weights float32 [B, H, Tq, Tk] of logits with bias and mask."""
    return flow.scheme.weights(final_logits(flow, logits, site), site)


def final_logits(flow: Flow, logits: Tensor, site: Site) -> Tensor:
    """What the softmax is given, or whatever stands in its place."""
    logits = flow.scheme.rescore(logits, site)
    return logits if flow.sharpness == 1 else logits * flow.sharpness


def _logits(way: Way, start: int, end: int, addend: bool) -> tuple[Tensor, Site]:
    """float32 [B, H, end − start, last] of one way, and the site that they are of."""
    last = way.k.shape[2] - way.q.shape[2] + end
    q, k = way.q[:, :, start:end], way.k[:, :, :last]
    precision = way.precision or q.dtype
    logits = ((q.to(precision) * q.shape[-1] ** -0.5) @ k.to(precision).transpose(-2, -1)).float()
    if addend:
        logits = logits + addend_of(way.q, way.k, way.flow, start, end)
    return logits, way.flow.site(last - end + start, last, q, k)


def _values(scheme: Scheme, weights: Tensor, site: Site, elsewhere: Sequence[tuple[Tensor, Site]]) -> Tensor:
    """The scheme's term beside the weighted values: that of each pair from where it stands."""
    total, left = torch.zeros((), device=weights.device), weights
    for where, its_site in elsewhere:
        total = total + scheme.values(weights.where(where, 0), its_site)
        left = left.where(~where, 0)
    return total + scheme.values(left, site)
