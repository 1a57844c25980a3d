"""torch's scaled-dot-product attention, whose kernel never stores all logits.

It is used on every device if nothing is added to the logits and only the future is masked. On a CPU without gradients
it also supports addends, which are passed as its mask, for a block of queries at a time.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from posx.models.attention.context import Backend, Case, Flow, addend_of, dense_addend
from posx.runtime.processor import processor
from posx.schemes.base import Site

MASK_BYTES = 4 * 2**20  # addend of a block of queries
MASK_QUERIES = 256  # largest block: smaller blocks skip more of the future


class Sdpa(Backend):
    """torch's kernel."""

    name = "fused"

    def serves(self, case: Case) -> bool:
        # The kernel does not compute gradients of an addend, and on a GPU rounds it to the precision of the products.
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
    """Whether torch's kernel is faster on this CPU than tiles without gradients.

    Its products use a library optimized for Intel: on Intel processors the kernel takes 0.5 (bf16) to 0.8 (float32) of
    the time of tiles, on AMD 2.4 times as long (docs/LOG.md). The choice depends on the processor and is not measured
    at run time, so that a machine always uses the same backend.
    """
    return processor().vendor == "GenuineIntel"


def _with_mask(q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
    """torch's kernel for one block of queries at a time, so that addends are small; not differentiable."""
    n_heads, n_queries, n_keys = q.shape[1], q.shape[2], k.shape[2]
    step = max(16, min(MASK_QUERIES, MASK_BYTES // (n_heads * n_keys * 4)))
    if flow.by_distance is not None:
        step = MASK_QUERIES  # it needs no additional memory
    out = torch.empty_like(q)  # one output: separate pieces would fragment memory as blocks grow
    for start in range(0, n_queries, step):
        end = min(n_queries, start + step)
        last = n_keys - n_queries + end
        queries = q[:, :, start:end]
        if flow.by_distance is None:
            addend = addend_of(q, k, flow, start, end)
        else:
            addend, queries = _backwards(flow.by_distance, end - start, last), queries.flip(2)
        if q.dtype != torch.bfloat16:  # with bf16, the kernel accepts a float32 mask
            addend = addend.to(q.dtype)
        with torch.autocast("cpu", enabled=False):  # which would round the addend to bf16
            part = F.scaled_dot_product_attention(queries, k[:, :, :last], v[:, :, :last], attn_mask=addend)
        out[:, :, start:end] = part if flow.by_distance is None else part.flip(2)
    return out


def addend_by_distance(flow: Flow, n_heads: int) -> Tensor | None:
    """float32 [H, 2 T − 1]: the addend at distances T − 1 .. 0, then −inf for the T − 1 distances to the future.

    None if the addend depends on more: the bias is not by distance, other keys are masked, or positions are not
    consecutive.
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
    """The addend [1, H, Tq, last] of the ``n_queries`` queries before index ``last``, in reverse order.

    The next key and the previous query change the distance by the same step, so the matrix is a strided view of a row.
    """
    first = by_distance.shape[1] // 2 + 1 - last
    return by_distance.as_strided((1, len(by_distance), n_queries, last), (0, by_distance.stride(0), 1, 1), first)
