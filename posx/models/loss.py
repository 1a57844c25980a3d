"""Next-token cross-entropy, fused with the output head and computed in chunks.

Logits are by far the largest tensor of a batch: for 8,192 tokens and a vocabulary of 4,096, they take 134 MB in
float32 and are read and written several times. A chunk of rows fits in the cache, and its gradient is computed in the
same pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from posx.config.schema import IGNORED

CHUNK = {"cpu": 512, "cuda": 4096}  # rows of a product
GRADIENT_BYTES = 32 * 2**20  # on a CPU: logit gradients that are collected for one product for the weight
ROW_BYTES = {"cpu": 2 * 2**20, "cuda": 256 * 2**20}  # float32 logits that are processed elementwise at a time
SMALLEST = 1e-30  # smaller probabilities lose precision in float32


def nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood in nats, float32 [N], of targets [N] under logits [N, V]; 0 where ignored."""
    return F.cross_entropy(logits.float(), targets, reduction="none", ignore_index=IGNORED)


class _HeadCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        rows, head = hidden.to(dtype), weight.to(dtype)
        on_cpu = hidden.device.type == "cpu"
        kind = "cpu" if on_cpu else "cuda"
        chunk, row_count = CHUNK[kind], max(16, ROW_BYTES[kind] // (4 * len(head)))
        # On a CPU, the weight's gradient, which is read and written as a whole, is computed once for several chunks.
        chunks_per_block = max(1, GRADIENT_BYTES // (chunk * len(head) * rows.element_size())) if on_cpu else 1
        buffer = torch.empty(min(chunk * chunks_per_block, len(rows)), len(head), dtype=dtype, device=hidden.device)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        d_hidden, d_weight = torch.empty_like(rows), None
        for block in _slices(len(rows), len(buffer)):
            gradient = buffer[: block.stop - block.start]
            for part in _slices(len(gradient), chunk):
                here = slice(block.start + part.start, block.start + part.stop)
                logits = torch.mm(rows[here], head.T, out=gradient[part])
                for group in _slices(len(logits), row_count):
                    total += _softmax_minus_target(logits[group], targets[here][group])
                torch.mm(logits, head, out=d_hidden[here])
            product = gradient.T @ rows[block]
            # Summed in float32: a running sum in bf16 would lose small addends.
            d_weight = product.to(torch.float32) if d_weight is None else d_weight.add_(product)
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.hidden_dtype = hidden.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        scale = gradients[0]
        return d_hidden.to(ctx.hidden_dtype) * scale, d_weight * scale, None, None


def _slices(count: int, size: int) -> Iterator[slice]:
    """Slices of ``size`` rows out of ``count``; the last may be shorter."""
    for first in range(0, count, size):
        yield slice(first, min(count, first + size))


def _softmax_minus_target(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of nats for logits [n, V] and targets [n]; overwrites the logits with their gradient."""
    scored = targets != IGNORED
    index = torch.where(scored, targets, 0)[:, None]
    exact = logits.float()
    probabilities = torch.softmax(exact, dim=-1)
    likelihood = probabilities.gather(1, index)
    # On a CPU, logsumexp would take most of the time. On a GPU, the comparison would force a synchronization.
    if logits.device.type == "cpu" and not likelihood.min() < SMALLEST:
        nats = -likelihood.log()
    else:
        nats = exact.logsumexp(dim=-1, keepdim=True) - exact.gather(1, index)
    probabilities.scatter_(1, index, likelihood - 1.0)
    if logits.device.type != "cpu" or not scored.all():
        probabilities *= scored[:, None]
    logits.copy_(probabilities)
    return torch.where(scored, nats[:, 0], 0.0).sum()


def head_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum of nats over all scored targets, a float32 scalar with gradients to ``hidden`` and ``weight``.

    ``hidden`` [N, C], ``weight`` [V, C], ``targets`` int64 [N] (IGNORED is skipped); products run in ``dtype``.
    """
    return _HeadCrossEntropy.apply(hidden, weight, targets, dtype)
