"""FlexAttention: a scheme's closure compiled into one kernel that never stores all logits. For CUDA.

The closure f(b, h, i, j) that the dense backend calls with index ranges is called here for one element. Gradients of
tensors that a closure captures use atomic additions, so runs with a trained bias are not reproducible to the last bit;
records name the backend. On a CPU, which only tests use, torch does not support the backward pass.

Not tested on a GPU.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache, reduce
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from posx.extensions.base import Mask
from posx.models.attention.context import Backend, Case, Flow
from posx.schemes.base import Closure

HEAD_DIMS = (16, 32, 64, 128, 256)  # supported by the kernel


class Flex(Backend):
    """FlexAttention, for a bias by index."""

    name = "flex"

    def serves(self, case: Case) -> bool:
        return case.whole

    def prepare(self, flow: Flow, n_heads: int) -> Flow:
        seen = seen_blocks(flow.positions.shape[-1], flow.extension.masks(), flow.positions.device)
        return replace(flow, seen=seen)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
        site = flow.site(0, q.shape[2], q, k)
        closure = flow.scheme.bias(site) if flow.scheme.capabilities.has_bias else None
        return flex(q, k, v, closure, flow.seen)


def is_fast(case: Case) -> bool:
    """Whether its kernel supports this case: requires an Ampere GPU or later, Triton, and a bias by index."""
    return (
        case.device.type == "cuda"
        and torch.cuda.get_device_capability(case.device) >= (8, 0)
        # The first version with gradients of captured tensors and arbitrary lengths.
        and torch.torch_version.TorchVersion(torch.__version__) >= "2.6"
        and find_spec("triton") is not None
        and find_spec("torch.nn.attention.flex_attention") is not None
        and case.head_dim in HEAD_DIMS
        and not case.capabilities.bias_per_layer
    )


def seen_blocks(length: int, masks: list[Mask], device: torch.device) -> Any:
    """The kernel's block mask: blocks in the future are skipped."""
    return _blocks_of(length, masks, device.type) if masks else _causal_blocks(length, device.type)


@lru_cache(maxsize=4)
def _causal_blocks(length: int, device_type: str) -> Any:
    """Cached, because it needs a dense boolean matrix and every training step uses the same mask."""
    return _blocks_of(length, [], device_type)


def _blocks_of(length: int, masks: list[Mask], device_type: str) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return reduce(torch.logical_and, (mask(b, h, i, j) for mask in masks), i >= j)

    return create_block_mask(seen, None, None, length, length, device=device_type)


def flex(q: Tensor, k: Tensor, v: Tensor, closure: Closure | None, seen: Any) -> Tensor:
    """Output [B, H, T, D] for q, k, v of this shape; the closure's value is added to every visible logit."""

    def add(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score if closure is None else score + closure(b, h, i, j)

    return _kernel(q.device.type)(q, k, v, score_mod=add, block_mask=seen)


@cache
def _kernel(device_type: str) -> Any:
    """Compiled on CUDA. Uncompiled, as in tests on a CPU, it computes every logit."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if device_type == "cuda" else flex_attention
