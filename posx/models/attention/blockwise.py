"""Attention for a block of queries at a time, with plain products: for everything that no kernel supports.

It also implements branches, with which an extension changes the positions of some pairs: q and k are rotated once per
branch, each logit is taken from the branch of its pair, and one softmax runs over all of them.
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

BLOCK_BYTES = 256 * 2**20  # logits of a block of queries


@dataclass(frozen=True)
class PairGroup:
    """Rotated q [B, H, Tq, D] and k [B, H, Tk, D] for the pairs in ``where`` (None: all remaining pairs).

    ``precision``: dtype of their products, None: dtype of q.
    """

    q: Tensor
    k: Tensor
    flow: Flow
    where: Mask | None = None
    precision: torch.dtype | None = None


class Blocks(Backend):
    """Supports everything that no other backend does."""

    name = "blocks"

    def attend(self, q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
        return in_blocks([PairGroup(q, k, flow)], v)


def group_pairs(q: Tensor, k: Tensor, flow: Flow) -> list[PairGroup]:
    """Unrotated q [B, H, Tq, D] and k [B, H, Tk, D], rotated once for the default positions and once per branch."""
    groups = [PairGroup(*flow.rotated(q, k), flow)]
    for where, branch in flow.branches:
        branch = replace(branch, layer=flow.layer, x=flow.x, temperature=flow.temperature)
        groups.append(PairGroup(*branch.rotated(q, k), branch, where))
    return groups


def in_blocks(groups: Sequence[PairGroup], v: Tensor) -> Tensor:
    """Attention [B, H, Tq, D] over v [B, H, Tk, D]; the first group is for all pairs that no other group covers."""
    flow, q, k = groups[0].flow, groups[0].q, groups[0].k
    batch, n_heads, n_queries, _ = q.shape
    n_keys = k.shape[2]
    by_logits = flow.scheme.capabilities.needs_logits or len(groups) > 1 or flow.sharpness != 1
    budget = BLOCK_BYTES // 32 if by_logits else BLOCK_BYTES  # _by_logits allocates many tensors of this size
    step = flow.block or max(16, budget // (batch * n_heads * n_keys * 4))
    # Without gradients, write into one output: separate pieces would fragment memory as blocks grow.
    out: list[Tensor] | Tensor = []
    if not torch.is_grad_enabled():
        out = torch.empty(*q.shape[:3], v.shape[3], dtype=v.dtype, device=v.device)
    for start in range(0, n_queries, step):
        end = min(n_queries, start + step)
        last = n_keys - n_queries + end  # later keys are in the future of every query of the block
        if by_logits:
            part = _by_logits(groups, v[:, :, :last], start, end)
        else:
            part = products(q[:, :, start:end], k[:, :, :last], v[:, :, :last], addend_of(q, k, flow, start, end))
        if isinstance(out, list):
            out.append(part)
        else:
            out[:, :, start:end] = part
    return torch.cat(out, dim=2) if isinstance(out, list) else out


def _by_logits(groups: Sequence[PairGroup], v: Tensor, start: int, end: int) -> Tensor:
    """Queries ``start`` to ``end`` over v [B, H, last, D], if the scheme or an extension requires all logits."""
    flow = groups[0].flow
    logits, site, branches = logits_of(groups, start, end)
    with torch.autocast(v.device.type, enabled=False):
        weights = weights_of(flow, logits, site)
        term = _values(flow.scheme, weights, site, branches) if flow.scheme.capabilities.has_values else None
    out = weights.to(v.dtype) @ v
    return out if term is None else out + term.to(out.dtype)


def logits_of(
    groups: Sequence[PairGroup], start: int, end: int, addend: bool = True
) -> tuple[Tensor, Site, list[tuple[Tensor, Site]]]:
    """float32 logits [B, H, end − start, last] of queries ``start`` to ``end``, before :meth:`Scheme.rescore`.

    With ``addend`` they include the bias, and masked keys are −inf. Also returns the site of the first group, and for
    each other group the pairs that it covers and its site.
    """
    logits, site = _logits(groups[0], start, end, addend)
    branches: list[tuple[Tensor, Site]] = []
    batch, n_heads, n_queries, last = logits.shape
    for group in groups[1:]:
        assert group.where is not None
        where = seen_by(group.where, last - n_queries, last, batch, n_heads, logits.device)
        if bool(where.any()):
            branch_logits, branch_site = _logits(group, start, end, addend)
            logits = torch.where(where, branch_logits, logits)
            branches.append((where, branch_site))
    return logits, site, branches


def weights_of(flow: Flow, logits: Tensor, site: Site) -> Tensor:
    """Attention weights, float32 [B, H, Tq, Tk], of logits that include bias and mask."""
    return flow.scheme.weights(final_logits(flow, logits, site), site)


def final_logits(flow: Flow, logits: Tensor, site: Site) -> Tensor:
    """The input of the softmax, or of the scheme's replacement."""
    logits = flow.scheme.rescore(logits, site)
    return logits if flow.sharpness == 1 else logits * flow.sharpness


def _logits(group: PairGroup, start: int, end: int, addend: bool) -> tuple[Tensor, Site]:
    """float32 logits [B, H, end − start, last] of one group, and its site."""
    last = group.k.shape[2] - group.q.shape[2] + end
    q, k = group.q[:, :, start:end], group.k[:, :, :last]
    precision = group.precision or q.dtype
    logits = ((q.to(precision) * q.shape[-1] ** -0.5) @ k.to(precision).transpose(-2, -1)).float()
    if addend:
        logits = logits + addend_of(group.q, group.k, group.flow, start, end)
    return logits, group.flow.site(last - end + start, last, q, k)


def _values(scheme: Scheme, weights: Tensor, site: Site, branches: Sequence[tuple[Tensor, Site]]) -> Tensor:
    """The scheme's term that is added to the weighted values, with each pair at the positions of its branch."""
    total, remaining = torch.zeros((), device=weights.device), weights
    for where, branch_site in branches:
        total = total + scheme.values(weights.where(where, 0), branch_site)
        remaining = remaining.where(~where, 0)
    return total + scheme.values(remaining, site)
