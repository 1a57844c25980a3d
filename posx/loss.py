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
CHUNK = 512


def nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood in nats, float32 [N], of targets [N] under logits [N, V]; 0 where ignored."""
    return F.cross_entropy(logits.float(), targets, reduction="none", ignore_index=IGNORED)


class _HeadCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        rows, head = hidden.to(dtype), weight.to(dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(rows)
        d_weight = torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, len(rows), CHUNK):
            part, wanted = rows[start : start + CHUNK], targets[start : start + CHUNK]
            logits = (part @ head.T).float()
            norm = logits.logsumexp(dim=-1)
            scored = wanted != IGNORED
            index = torch.where(scored, wanted, 0)[:, None]
            total += torch.where(scored, norm - logits.gather(1, index)[:, 0], 0.0).sum()
            gradient = logits.sub_(norm[:, None]).exp_()
            gradient.scatter_add_(1, index, gradient.new_full(index.shape, -1.0))
            gradient.mul_(scored[:, None])
            gradient = gradient.to(dtype)
            torch.mm(gradient, head, out=d_hidden[start : start + CHUNK])
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


def head_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum of nats over all scored targets, a float32 scalar with gradients to ``hidden`` and ``weight``.

    ``hidden`` [N, C], ``weight`` [V, C], ``targets`` int64 [N] (IGNORED is skipped); products run in ``dtype``.
    """
    return _HeadCrossEntropy.apply(hidden, weight, targets, dtype)
