"""Causal attention with an addend to the logits and a mask, in three ways that give the same numbers.

* *dense*: batched products with one addend for all layers. Fast at short contexts, compiles well.
* *fused*: torch's own scaled-dot-product attention, where nothing is added or masked but the future.
* *blocks*: dense, for some queries at a time. Memory grows with ℓ, not with ℓ².

Logits are q·k / √D. Addends and softmax are float32 whatever the precision of the products.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from posx.extensions.base import NONE, Applied, Mask
from posx.schemes.base import Closure, Scheme, Site

# Limits measured on a CPU by scripts/bench/attention.py, results in results/bench/attention.md: logits that fit into
# the cache are several times faster than logits that do not. A GPU wants them large instead.
BLOCK_BYTES = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}  # logits of a block of queries
DENSE_BYTES = {"cpu": 8 * 2**20, "cuda": 256 * 2**20}  # logits of a whole layer, without gradients
DENSE_BYTES_TRAINING = 512 * 2**20  # with gradients they are kept anyway
# From this length on torch's fused kernel beats batched products on a CPU.
FUSED_FROM, FUSED_FROM_TRAINING = 128, 512


@dataclass(frozen=True)
class Flow:
    """What one forward pass hands to every layer.

    ``positions`` [T] or [B, T] after the extension; ``shared`` from the scheme's ``prepare``; ``addend``
    [1 or B, 1 or H, T, T], with −inf over the future, is there on the dense path only. ``block`` is a number of
    queries that forces the path by blocks; ``fused`` allows torch's kernel.
    """

    scheme: Scheme
    positions: Tensor
    shared: Any = None
    extension: Applied = NONE
    addend: Tensor | None = None
    fused: bool = False
    block: int | None = None


def plan(
    scheme: Scheme,
    positions: Tensor,
    extension: Applied,
    batch: int,
    n_heads: int,
    block: int | None = None,
    backend: str = "auto",
) -> Flow:
    """Prepare a forward pass of ``batch`` sequences at these ``positions`` ([T] or [B, T])."""
    flow = Flow(scheme, positions, scheme.prepare(positions, extension), extension, block=block)
    if block is not None:
        return flow
    if backend == "auto":
        backend = pick_backend(scheme, positions.shape[-1], extension, batch, n_heads, positions.device)
    if backend == "fused" and not is_plain(scheme, extension):
        backend = "dense"  # the kernel takes no addend
    if backend == "dense" and not scheme.bias_per_layer:
        site = Site(positions, positions, shared=flow.shared)
        closure = scheme.bias(site) if scheme.has_bias else None
        return replace(flow, addend=dense_addend(site, closure, extension.masks(), n_heads))
    return replace(flow, fused=backend == "fused")


def pick_backend(
    scheme: Scheme, length: int, extension: Applied, batch: int, n_heads: int, device: torch.device
) -> str:
    """``dense``, ``fused`` or ``blocks``: the fastest that fits, with or without gradients as is the mode."""
    training = torch.is_grad_enabled()
    fused_from = FUSED_FROM_TRAINING if training else FUSED_FROM
    if is_plain(scheme, extension) and (length >= fused_from or device.type != "cpu"):
        return "fused"
    most = DENSE_BYTES_TRAINING if training else DENSE_BYTES.get(device.type, DENSE_BYTES["cpu"])
    if not scheme.bias_per_layer and batch * n_heads * length * length * 4 <= most:
        return "dense"
    return "blocks"


def is_plain(scheme: Scheme, extension: Applied) -> bool:
    """Whether nothing is added to the logits and only the future is masked."""
    return not scheme.has_bias and not extension.masks()


def attend(q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
    """Attention output [B, H, Tq, D] of q [B, H, Tq, D] over k, v [B, H_kv, Tk, D].

    The queries are the last Tq of the Tk tokens. H is a multiple of H_kv (grouped queries).
    """
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if flow.fused and q.shape[2] == k.shape[2]:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    if flow.addend is not None:
        return _products(q, k, v, flow.addend[..., -q.shape[2] :, :])
    return _blocks(q, k, v, flow)


def _products(q: Tensor, k: Tensor, v: Tensor, addend: Tensor) -> Tensor:
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = torch.softmax(logits + addend, dim=-1, dtype=torch.float32)
    return weights.to(v.dtype) @ v


def _blocks(q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
    batch, n_heads, n_queries, _ = q.shape
    n_keys = k.shape[2]
    scheme, masks = flow.scheme, flow.extension.masks()
    most = BLOCK_BYTES.get(q.device.type, BLOCK_BYTES["cpu"])
    step = flow.block or max(16, most // (batch * n_heads * n_keys * 4))
    first = n_keys - n_queries
    out = []
    for start in range(0, n_queries, step):
        rows = q[:, :, start : start + step]
        q_start = first + start
        end = q_start + rows.shape[2]  # keys past the block's last query are in its future
        keys, values = k[:, :, :end], v[:, :, :end]
        site = Site(
            q_pos=flow.positions[..., q_start:end],
            k_pos=flow.positions[..., :end],
            q_start=q_start,
            shared=flow.shared,
            q=rows,
            k=keys,
        )
        closure = scheme.bias(site) if scheme.has_bias else None
        out.append(_products(rows, keys, values, dense_addend(site, closure, masks, n_heads)))
    return torch.cat(out, dim=2) if len(out) > 1 else out[0]


def dense_addend(site: Site, closure: Closure | None, masks: list[Mask], n_heads: int) -> Tensor:
    """The closure's value for all pairs, and −inf where a key is masked or in the future.

    float32, [1, 1, Tq, Tk] without a closure, else [1 or B, H, Tq, Tk].
    """
    device = site.q_pos.device
    batch = site.q_pos.shape[0] if site.q_pos.ndim == 2 else 1
    b = torch.arange(batch, device=device)[:, None, None, None]
    h = torch.arange(n_heads, device=device)[:, None, None]
    i = torch.arange(site.q_pos.shape[-1], device=device)[:, None]
    j = torch.arange(site.k_pos.shape[-1], device=device)
    seen = i + site.q_start >= j
    for mask in masks:
        seen = seen & mask(b, h, i + site.q_start, j)
    if closure is None:
        addend = torch.zeros((), device=device)
    else:
        addend = closure(b, h, i, j).float()
    addend = torch.where(seen, addend, float("-inf"))
    return addend.reshape((1,) * (4 - addend.ndim) + addend.shape)
