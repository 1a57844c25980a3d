"""Causal attention in tiles, with gradients: for training and evaluation on a CPU.

Logits are written and read several times, and all of them together do not fit in the cache: for 16 sequences of 256
tokens with 4 heads they take 17 MB in float32. A tile covers some matrices (one per head and sequence) and a block of
queries, and fits in the cache. It ends at the key of its last query, so most of a long context's future is never
computed.

Products run in the precision of q, k and v; everything else runs in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from posx.models.attention.context import Backend, Case, Flow, addend_of
from posx.models.attention.dense import shared_addend

# Measured, see docs/LOG.md, 2026-11-24 and 2026-11-25.
TILE_BYTES = 4 * 2**20  # float32 logits of a tile
QUERIES = 256  # of a tile: fewer skip more of the future; more make products faster
FEWEST_QUERIES = 32

AddendOf = Callable[[int, int], Tensor | None]


class Tiled(Backend):
    """Tiles on a CPU."""

    name = "tiles"

    def serves(self, case: Case) -> bool:
        if not case.training:
            return True
        return case.whole and not case.capabilities.bias_per_layer  # gradients require an addend shared by all layers

    def prepare(self, flow: Flow, n_heads: int) -> Flow:
        if flow.plain or not torch.is_grad_enabled():
            return flow
        return replace(flow, addend=shared_addend(flow, n_heads))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
        if torch.is_grad_enabled():
            return differentiable_attention(q, k, v, flow.addend)
        return tiled_attention(q, k, v, lambda start, end: None if flow.plain else addend_of(q, k, flow, start, end))


def tiled_attention(q: Tensor, k: Tensor, v: Tensor, addend_of: AddendOf) -> Tensor:
    """softmax(q·k / √D + addend)·v, [B, H, Tq, D], over keys up to each query's own; not differentiable.

    q [B, H, Tq, D]; k, v [B, H, Tk, D]; the queries are the last Tq of the Tk tokens. ``addend_of(start, end)`` is
    the float32 addend [1 or B, 1 or H, end − start, last key + 1] of these queries, −inf over the future, or None
    if only the future is masked.
    """
    return _forward(_matrices(q) * q.shape[-1] ** -0.5, _matrices(k), _matrices(v), q.shape[1], addend_of).view(q.shape)


def _forward(
    queries: Tensor, keys: Tensor, values: Tensor, n_heads: int, addend_of: AddendOf, stored: list[Tensor] | None = None
) -> Tensor:
    """[B · H, Tq, D] over keys and values, for scaled queries; ``stored`` collects the weights of every tile."""
    out = torch.empty_like(queries)
    for start, end, last in _queries(queries.shape[1], keys.shape[1]):
        addend = addend_of(start, end)
        future = None
        if addend is None:
            future = torch.full((end - start, end - start), float("-inf"), dtype=queries.dtype).triu_(1)
        for tile in _tiles(queries, keys.shape[1], n_heads):
            logits = torch.bmm(queries[tile, start:end], _upto(keys[tile], last).transpose(1, 2))
            weights = _weights(logits, addend, future, tile, n_heads)
            torch.bmm(weights, _upto(values[tile], last), out=out[tile, start:end])
            if stored is not None:
                stored.append(weights)
    return out


class _Differentiable(torch.autograd.Function):
    """The same with gradients; stores the weights of every tile."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, addend: Tensor | None) -> Tensor:
        queries, keys, values = _matrices(q) * q.shape[-1] ** -0.5, _matrices(k), _matrices(v)
        stored: list[Tensor] = []

        def part(start: int, end: int) -> Tensor | None:
            return None if addend is None else addend[..., start:end, :end]

        out = _forward(queries, keys, values, q.shape[1], part, stored)
        ctx.save_for_backward(queries, keys, values, *stored)
        ctx.shape, ctx.addend_shape = q.shape, None if addend is None else addend.shape
        return out.view(q.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, *stored = ctx.saved_tensors
        weights = iter(stored)
        shape = ctx.shape
        n_heads, length, scale = shape[1], shape[2], shape[3] ** -0.5
        d_out = _matrices(gradients[0])
        d_queries = torch.empty_like(queries)
        blocks = list(_queries(length, length))
        # Blocks of queries are summed in float32: a running sum in bf16 would lose small addends.
        exact = torch.promote_types(queries.dtype, torch.float32)
        d_keys, d_values = (
            torch.empty_like(x) if len(blocks) == 1 else torch.zeros_like(x, dtype=exact) for x in (keys, values)
        )
        d_addend = torch.zeros(ctx.addend_shape, dtype=exact) if ctx.needs_input_grad[3] else None
        for start, end, last in blocks:
            for tile in _tiles(queries, length, n_heads):
                part, d_part = next(weights), d_out[tile, start:end].contiguous()
                d_weights = torch.bmm(d_part, _upto(values[tile], last).transpose(1, 2))
                d_logits = torch._softmax_backward_data(d_weights, part, -1, part.dtype)
                if d_addend is not None:
                    into = _of_tile(d_addend[..., start:end, :last], tile, n_heads)
                    into += _by_heads(d_logits, n_heads).to(exact).sum_to_size(into.shape)
                torch.bmm(d_logits, _upto(keys[tile], last), out=d_queries[tile, start:end])
                seen = (tile, slice(last))
                _add_product(d_values[seen], part.transpose(1, 2), d_part, len(blocks) == 1)
                these = queries[tile, start:end].contiguous()
                _add_product(d_keys[seen], d_logits.transpose(1, 2), these, len(blocks) == 1)
        d_queries *= scale
        d_q, d_k, d_v = (x.to(queries.dtype).view(shape) for x in (d_queries, d_keys, d_values))
        return d_q, d_k, d_v, d_addend


def _add_product(total: Tensor, a: Tensor, b: Tensor, only: bool) -> None:
    """total += a · b; if it is the only product, total = a · b."""
    if only:
        torch.bmm(a, b, out=total)
    else:
        total += torch.bmm(a, b)


def differentiable_attention(q: Tensor, k: Tensor, v: Tensor, addend: Tensor | None) -> Tensor:
    """:func:`tiled_attention` of q, k, v [B, H, T, D], with gradients to all four.

    ``addend`` [1 or B, 1 or H, T, T] float32, −inf over the future; None: only the future is masked.
    """
    return _Differentiable.apply(q, k, v, addend)


def hide_from_compiler() -> None:
    """Exclude :func:`differentiable_attention` from torch.compile, which would unroll all tiles and store them.

    A decorator would import the compiler with this module.
    """
    global differentiable_attention
    if not hasattr(differentiable_attention, "_torchdynamo_disable"):
        differentiable_attention = torch.compiler.disable(differentiable_attention)


def _weights(logits: Tensor, addend: Tensor | None, future: Tensor | None, tile: slice, n_heads: int) -> Tensor:
    """softmax(logits + addend) [n, Tq, Tk] of a tile, in the precision of its logits, which it overwrites.

    Without an addend ``future`` [Tq, Tq] masks the last keys: only these are in the future of some queries.
    """
    if future is not None:
        logits[:, :, -logits.shape[1] :] += future
        return torch.softmax(logits, dim=-1)
    assert addend is not None
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    by_heads = _by_heads(exact, n_heads)
    by_heads += _of_tile(addend, tile, n_heads)
    return torch.softmax(exact, dim=-1).to(logits.dtype)


def _matrices(x: Tensor) -> Tensor:
    """[B, H, T, D] as contiguous [B · H, T, D]."""
    return x.reshape(-1, *x.shape[2:]).contiguous()


def _upto(x: Tensor, last: int) -> Tensor:
    """The first ``last`` tokens of [n, T, D]; contiguous if copying is cheap, because batched products are faster."""
    part = x[:, :last]
    return part.contiguous() if last <= 8 * QUERIES else part


def _queries(n_queries: int, n_keys: int) -> Iterator[tuple[int, int, int]]:
    """Start and end of each block of queries, and the number of keys that its last query sees."""
    step = min(QUERIES, max(FEWEST_QUERIES, TILE_BYTES // (4 * n_keys)))
    for start in range(0, n_queries, step):
        end = min(n_queries, start + step)
        yield start, end, n_keys - n_queries + end


def _tiles(queries: Tensor, n_keys: int, n_heads: int) -> Iterator[slice]:
    """Slices of matrices, one per tile: whole sequences, or some heads of one sequence."""
    matrices, n_queries, _ = queries.shape
    per_tile = max(1, TILE_BYTES // (4 * n_keys * min(QUERIES, n_queries)))
    if per_tile >= n_heads:
        per_tile -= per_tile % n_heads
    else:
        per_tile = next(n for n in range(per_tile, 0, -1) if n_heads % n == 0)
    for first in range(0, matrices, per_tile):
        yield slice(first, min(matrices, first + per_tile))


def _by_heads(x: Tensor, n_heads: int) -> Tensor:
    """[n, Tq, Tk] of a tile as [sequences, heads, Tq, Tk]."""
    return x.view(-1, min(n_heads, len(x)), *x.shape[1:])


def _of_tile(addend: Tensor, tile: slice, n_heads: int) -> Tensor:
    """The part of [1 or B, 1 or H, Tq, Tk] that belongs to a tile."""
    (first, head), count = divmod(tile.start, n_heads), tile.stop - tile.start
    if len(addend) > 1:
        addend = addend[first : first + max(1, count // n_heads)]
    if addend.shape[1] > 1 and count < n_heads:
        addend = addend[:, head : head + count]
    return addend
