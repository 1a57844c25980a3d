"""torch's scaled-dot-product attention, whose kernel never holds all logits.

Where nothing is added and only the future is masked it serves everywhere. On a CPU without gradients also elsewhere:
what is added goes in as its mask, for some queries at a time.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from posx.models.attention.context import Backend, Case, Flow, addend_of, dense_addend
from posx.runtime.processor import processor
from posx.schemes.base import Site

MASK_BYTES = 4 * 2**20  # what is added to the logits of a block of queries, as the kernel is given it
MASK_QUERIES = 256  # of a block at most: fewer skip more of the future


class Sdpa(Backend):
    """torch's kernel."""

    name = "fused"

    def serves(self, case: Case) -> bool:
        # The kernel gives an addend no gradients, and a GPU's takes it in the products' precision only.
        with_mask = not case.training and case.device.type == "cpu"
        return with_mask or (case.plain and case.whole)

    def instead(self, case: Case) -> str:
        return "dense" if case.whole else "blocks"

    def prepare(self, flow: Flow, n_heads: int) -> Flow:
        return flow if flow.plain else replace(flow, by_distance=addend_by_distance(flow, n_heads))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
        if flow.plain and q.shape[2] == k.shape[2]:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return _with_mask(q, k, v, flow)


def is_fast() -> bool:
    """Whether torch's kernel on this CPU is faster than tiles without gradients: it is where its products are.

    They come from a library of Intel's, at home on Intel's processors: there the kernel takes 0.5 (bf16) to 0.8
    (float32) of the time of tiles, on AMD's 2.4 times as much (docs/LOG.md). It goes by the processor and is not
    measured, so that a machine always takes the same path.
    """
    return processor().vendor == "GenuineIntel"


def _with_mask(q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
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


def addend_by_distance(flow: Flow, n_heads: int) -> Tensor | None:
    """float32 [H, 2 T − 1]: what is added at the distances T − 1 .. 0, and −inf for the T − 1 distances to the future.

    None where that does not say it all: the bias knows more than the distance, more than the future is masked, or
    positions are not one after the other.
    """
    scheme, positions = flow.scheme, flow.positions
    if not scheme.capabilities.bias_is_by_distance or flow.extension.masks() or positions.ndim > 1:
        return None
    if positions.is_floating_point() or not bool((positions.diff() == 1).all()):
        return None
    last = Site(positions[-1:], positions, q_start=len(positions) - 1, shared=flow.shared)
    past = dense_addend(last, scheme.bias(last), [], n_heads)[0, :, 0]
    return torch.cat([past, past.new_full((len(past), len(positions) - 1), float("-inf"))], dim=1)


def _backwards(by_distance: Tensor, n_queries: int, last: int) -> Tensor:
    """The addend [1, H, Tq, last] of the ``n_queries`` queries up to number ``last``, the last of them first.

    A step to the next key and one to the query before are the same step in distance: the matrix is a view of the row.
    """
    first = by_distance.shape[1] // 2 + 1 - last
    return by_distance.as_strided((1, len(by_distance), n_queries, last), (0, by_distance.stride(0), 1, 1), first)
