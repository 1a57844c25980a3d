"""Dense attention: batched products over all pairs in plain torch. The reference; fast on GPUs at short contexts."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from posx.models.attention.context import Backend, Case, Flow, dense_addend


class Dense(Backend):
    """Computes the addend once for all layers."""

    name = "dense"

    def serves(self, case: Case) -> bool:
        return not case.capabilities.bias_per_layer

    def prepare(self, flow: Flow, n_heads: int) -> Flow:
        return replace(flow, addend=shared_addend(flow, n_heads))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
        assert flow.addend is not None
        return products(q, k, v, flow.addend[..., -q.shape[2] :, :])


def shared_addend(flow: Flow, n_heads: int) -> Tensor:
    """The addend for all pairs in every layer, [1 or B, 1 or H, T, T], −inf over the future."""
    site = flow.site(0, flow.positions.shape[-1])
    closure = flow.scheme.bias(site) if flow.scheme.capabilities.has_bias else None
    return dense_addend(site, closure, flow.extension.masks(), n_heads)


def products(q: Tensor, k: Tensor, v: Tensor, addend: Tensor) -> Tensor:
    """softmax(q·k / √D + addend)·v, [B, H, Tq, D]."""
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = torch.softmax(logits + addend, dim=-1, dtype=torch.float32)
    return weights.to(v.dtype) @ v
