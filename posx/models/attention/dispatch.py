"""Causal attention with an addend to the logits and a mask, in five ways that give the same numbers.

* *dense*: batched products over all pairs, plain torch. The reference, and fast on a GPU at short contexts.
* *fused*: torch's own scaled-dot-product attention, where nothing is added and only the future is masked. On a CPU
  without gradients also elsewhere: what is added goes in as its mask, for some queries at a time.
* *tiles*: on a CPU, by tiles that fit its cache (tiles.py). Without gradients memory grows with ℓ, not with ℓ².
* *flex*: on a GPU, one kernel with the scheme's bias in it (flex.py).
* *blocks*: dense, for some queries at a time, where none of the others serves (blocks.py).

Logits are q·k / √D. Addends and softmax are float32 whatever the precision of the products.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from posx.extensions.base import Applied, Mask
from posx.models.attention import tiled as tiles
from posx.models.attention.blockwise import Way, in_blocks, products
from posx.models.attention.context import Flow, addend_of, dense_addend
from posx.models.attention.flex import can_flex, flex, seen_blocks
from posx.schemes.base import Scheme, Site

DENSE_BYTES = 256 * 2**20  # logits of a whole layer, without gradients
DENSE_BYTES_TRAINING = 512 * 2**20  # with gradients they are kept anyway
MASK_BYTES = 4 * 2**20  # what is added to the logits of a block of queries, as torch's kernel is given it
MASK_QUERIES = 256  # of a block at most: fewer skip more of the future


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
    branches = branches_of(scheme, positions, extension)
    # Without a bias queries can carry the factor of the logits, to any backend; else it meets them in blocks.
    sharpness = extension.sharpness()
    by_query = not scheme.capabilities.has_bias and not scheme.capabilities.needs_logits
    if block is not None or scheme.capabilities.needs_logits or branches or (sharpness != 1 and not by_query):
        backend = "blocks"
    elif backend == "auto":
        backend = pick_backend(scheme, positions.shape[-1], extension, batch, n_heads, positions.device)
    plain = is_plain(scheme, extension)
    if backend == "fused" and not plain and (torch.is_grad_enabled() or positions.device.type != "cpu"):
        backend = "dense"  # the kernel gives an addend no gradients, and a GPU's wants it in the products' precision
    if backend == "tiles" and scheme.capabilities.bias_per_layer and torch.is_grad_enabled():
        backend = "blocks"  # with gradients tiles want the addend of all layers
    shared = scheme.prepare(positions, extension)
    flow = Flow(scheme, positions, shared, extension, plain=plain, backend=backend, block=block)
    if extension:
        index = torch.arange(positions.shape[-1], device=positions.device)
        temperature = extension.temperature(index)
        if sharpness != 1 and by_query:
            temperature = (torch.ones_like(index).float() if temperature is None else temperature) * sharpness
            sharpness = 1.0
        flow = replace(flow, temperature=temperature, sharpness=sharpness, branches=branches)
    if backend == "fused" and not plain:
        return replace(flow, by_distance=addend_by_distance(scheme, positions, extension, shared, n_heads))
    once = backend == "dense" or (backend == "tiles" and torch.is_grad_enabled() and not plain)
    if once and not scheme.capabilities.bias_per_layer:
        site = flow.site(0, positions.shape[-1])
        closure = scheme.bias(site) if scheme.capabilities.has_bias else None
        return replace(flow, addend=dense_addend(site, closure, extension.masks(), n_heads))
    if backend == "flex":
        return replace(flow, seen=seen_blocks(positions.shape[-1], extension.masks(), positions.device))
    return flow


def branches_of(scheme: Scheme, positions: Tensor, extension: Applied) -> tuple[tuple[Mask, Flow], ...]:
    """The extension's branches, as this scheme prepares for them; none where it knows no distances."""
    if "distances" not in scheme.capabilities.accepts:
        return ()
    found = []
    index = torch.arange(positions.shape[-1], device=positions.device)
    for branch in extension.branches():
        queries, keys = branch.queries(index), branch.keys(index)
        shared = scheme.prepare(torch.cat([keys, queries]), extension)
        own = Flow(scheme, keys, shared, extension, query_positions=queries)
        found.append((branch.where, own))
    return tuple(found)


def pick_backend(
    scheme: Scheme, length: int, extension: Applied, batch: int, n_heads: int, device: torch.device
) -> str:
    """The fastest backend that fits, with or without gradients as is the mode."""
    if scheme.capabilities.needs_logits:
        return "blocks"
    training, plain = torch.is_grad_enabled(), is_plain(scheme, extension)
    logits = batch * n_heads * length * length * 4
    if device.type == "cpu":
        if not training:
            return "fused" if kernel_is_fast() else "tiles"
        # Tiles keep their weights for the backward pass: a long context wants torch's kernel, which does not.
        if logits <= DENSE_BYTES_TRAINING:
            return "blocks" if scheme.capabilities.bias_per_layer else "tiles"
        return "fused" if plain else "blocks"
    if plain:
        return "fused"
    if can_flex(scheme, device):
        return "flex"
    most = DENSE_BYTES_TRAINING if training else DENSE_BYTES
    return "dense" if logits <= most and not scheme.capabilities.bias_per_layer else "blocks"


def is_plain(scheme: Scheme, extension: Applied) -> bool:
    """Whether nothing is added to the logits, only the future is masked, and their softmax weighs the values."""
    return not scheme.capabilities.has_bias and not scheme.capabilities.needs_logits and not extension.masks()


def turn_and_attend(q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
    """:func:`attend` of q and k as the layer makes them, which the scheme rotates first, and branches by themselves."""
    start, end = k.shape[2] - q.shape[2], k.shape[2]

    def turned(own: Flow) -> tuple[Tensor, Tensor]:
        queries, keys = flow.scheme.rotate(q, k, own.site(start, end))
        return flow.sharpened(queries), keys

    if not flow.branches:
        return attend(*turned(flow), v, flow)
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    ways = [Way(*turned(flow), flow)]
    for where, branch in flow.branches:
        own = replace(branch, layer=flow.layer, x=flow.x)
        ways.append(Way(*turned(own), own, where))
    return in_blocks(ways, v)


def attend(q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
    """Attention output [B, H, Tq, D] of q [B, H, Tq, D] over k, v [B, H_kv, Tk, D].

    The queries are the last Tq of the Tk tokens. H is a multiple of H_kv (grouped queries).
    """
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if flow.scheme.capabilities.has_own_attention:
        return flow.scheme.attend(q, k, v, flow.site(k.shape[2] - q.shape[2], k.shape[2], q, k))
    whole = q.shape[2] == k.shape[2]
    if flow.backend == "fused" and whole and flow.plain:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    if flow.backend == "fused" and not torch.is_grad_enabled() and q.device.type == "cpu":
        return _fused_with_mask(q, k, v, flow)
    if flow.backend == "flex" and whole:
        site = flow.site(0, q.shape[2], q, k)
        return flex(q, k, v, flow.scheme.bias(site) if flow.scheme.capabilities.has_bias else None, flow.seen)
    if flow.backend == "tiles" and torch.is_grad_enabled() and whole:
        return tiles.differentiable_attention(q, k, v, flow.addend)
    if flow.backend == "tiles" and not torch.is_grad_enabled():
        return tiles.tiled_attention(
            q, k, v, lambda start, end: None if flow.plain else addend_of(q, k, flow, start, end)
        )
    if flow.addend is not None:
        return products(q, k, v, flow.addend[..., -q.shape[2] :, :])
    return in_blocks([Way(q, k, flow)], v)


@cache
def kernel_is_fast() -> bool:
    """Whether torch's kernel on this CPU is faster than tiles without gradients: it is where its products are.

    They come from a library of Intel's, at home on Intel's processors: there the kernel takes 0.5 (bf16) to 0.8
    (float32) of the time of tiles, on AMD's 2.4 times as much (docs/LOG.md). Asked of the processor, not measured, so
    that a machine always takes the same path.
    """
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _fused_with_mask(q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
    """torch's kernel for some queries at a time, whose addend is small; not differentiable."""
    n_heads, n_queries, n_keys = q.shape[1], q.shape[2], k.shape[2]
    step = max(16, min(MASK_QUERIES, MASK_BYTES // (n_heads * n_keys * 4)))
    if flow.by_distance is not None:
        step = MASK_QUERIES  # it takes no memory
    out = torch.empty_like(q)  # pieces of it, kept until the end, would lie between blocks of memory that grow
    for start in range(0, n_queries, step):
        end = min(n_queries, start + step)
        last = n_keys - n_queries + end
        queries = q[:, :, start:end]
        if flow.by_distance is None:
            addend = addend_of(q, k, flow, start, end)
        else:
            addend, queries = _backwards(flow.by_distance, end - start, last), queries.flip(2)
        if q.dtype != torch.bfloat16:  # beside bf16 the kernel takes float32 as it is
            addend = addend.to(q.dtype)
        with torch.autocast("cpu", enabled=False):  # which would round the addend to bf16
            found = F.scaled_dot_product_attention(queries, k[:, :, :last], v[:, :, :last], attn_mask=addend)
        out[:, :, start:end] = found if flow.by_distance is None else found.flip(2)
    return out


def addend_by_distance(
    scheme: Scheme, positions: Tensor, extension: Applied, shared: Any, n_heads: int
) -> Tensor | None:
    """float32 [H, 2 T − 1]: what is added at the distances T − 1 .. 0, and −inf for the T − 1 distances to the future.

    None where that does not say it all: the bias knows more than the distance, more than the future is masked, or
    positions are not one after the other.
    """
    if not scheme.capabilities.bias_is_by_distance or extension.masks() or positions.ndim > 1:
        return None
    if positions.is_floating_point() or not bool((positions.diff() == 1).all()):
        return None
    last = Site(positions[-1:], positions, q_start=len(positions) - 1, shared=shared)
    past = dense_addend(last, scheme.bias(last), [], n_heads)[0, :, 0]
    return torch.cat([past, past.new_full((len(past), len(positions) - 1), float("-inf"))], dim=1)


def _backwards(by_distance: Tensor, n_queries: int, last: int) -> Tensor:
    """The addend [1, H, Tq, last] of the ``n_queries`` queries up to number ``last``, the last of them first.

    A step to the next key and one to the query before are the same step in distance: the matrix is a view of the row.
    """
    first = by_distance.shape[1] // 2 + 1 - last
    return by_distance.as_strided((1, len(by_distance), n_queries, last), (0, by_distance.stride(0), 1, 1), first)
