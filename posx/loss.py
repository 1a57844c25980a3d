"""Next-token cross-entropy, fused with the output head and computed in chunks.

The logits of a batch are its largest tensor by far: 8,192 tokens over a vocabulary of 4,096 are 134 MB in float32,
read and written several times. A chunk of rows stays in the cache, and its gradient is computed in the same pass.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # a target that is not scored
CHUNK = {"cpu": 512, "cuda": 4096}  # rows of a product
ROW_BYTES = 2 * 2**20  # float32 logits that the elementwise work on a CPU takes at a time
SMALLEST = 1e-30  # a probability below loses digits in float32


def nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood in nats, float32 [N], of targets [N] under logits [N, V]; 0 where ignored."""
    return F.cross_entropy(logits.float(), targets, reduction="none", ignore_index=IGNORED)


class _HeadCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        rows, head = hidden.to(dtype), weight.to(dtype)
        on_cpu = hidden.device.type == "cpu"
        chunk = CHUNK["cpu" if on_cpu else "cuda"]
        few = max(16, ROW_BYTES // (4 * len(head))) if on_cpu else chunk
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(rows)
        d_weight = torch.zeros_like(weight, dtype=torch.float32)
        logits = torch.empty(min(chunk, len(rows)), len(head), dtype=dtype, device=hidden.device)
        for start in range(0, len(rows), chunk):
            part, wanted = rows[start : start + chunk], targets[start : start + chunk]
            gradient = torch.mm(part, head.T, out=logits[: len(part)])
            for first in range(0, len(part), few):
                total += _softmax_minus_target(gradient[first : first + few], wanted[first : first + few])
            torch.mm(gradient, head, out=d_hidden[start : start + chunk])
            # Chunks are added up in float32: a running sum in bf16 would lose small addends.
            d_weight += gradient.T @ part
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.hidden_dtype = hidden.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        scale = gradients[0]
        return d_hidden.to(ctx.hidden_dtype) * scale, d_weight * scale, None, None


def _softmax_minus_target(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of nats of logits [n, V] and targets [n]; overwrites the logits with their gradient."""
    scored = targets != IGNORED
    index = torch.where(scored, targets, 0)[:, None]
    exact = logits.float()
    probabilities = torch.softmax(exact, dim=-1)
    likelihood = probabilities.gather(1, index)
    # On a CPU torch's logsumexp takes longer than all the rest; a GPU would wait for the comparison instead.
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
