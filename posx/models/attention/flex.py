"""FlexAttention: a scheme's closure compiled into one kernel that never holds a matrix of logits. For CUDA.

The same closure f(b, h, i, j) that the dense backend calls with index ranges is called here for one element. Gradients
into what a closure captures use atomic additions, so that a run with a trained bias does not repeat to the last bit:
its record names the backend. torch refuses a backward pass on a CPU, where only the tests use this, without gradients.

Untested on a GPU: none was at hand.
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

HEAD_DIMS = (16, 32, 64, 128, 256)  # what the kernel is written for


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
    """Whether its kernel serves this case: on an Ampere GPU or later, with Triton, for a bias by index."""
    return (
        case.device.type == "cuda"
        and torch.cuda.get_device_capability(case.device) >= (8, 0)
        # The first to give gradients to what a closure captures, and to take any length.
        and torch.torch_version.TorchVersion(torch.__version__) >= "2.6"
        and find_spec("triton") is not None
        and find_spec("torch.nn.attention.flex_attention") is not None
        and case.head_dim in HEAD_DIMS
        and not case.does.bias_per_layer
    )


def seen_blocks(length: int, masks: list[Mask], device: torch.device) -> Any:
    """Which pairs may see each other, as the kernel wants it: blocks of the future are skipped."""
    return _blocks_of(length, masks, device.type) if masks else _causal_blocks(length, device.type)


@lru_cache(maxsize=4)
def _causal_blocks(length: int, device_type: str) -> Any:
    """Kept: it takes a dense matrix of booleans to make, and every step of a training asks for the same."""
    return _blocks_of(length, [], device_type)


def _blocks_of(length: int, masks: list[Mask], device_type: str) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return reduce(torch.logical_and, (mask(b, h, i, j) for mask in masks), i >= j)

    return create_block_mask(seen, None, None, length, length, device=device_type)


def flex(q: Tensor, k: Tensor, v: Tensor, closure: Closure | None, seen: Any) -> Tensor:
    """[B, H, T, D] of q, k, v of that shape: the closure's value is added to every logit of a pair that is seen."""

    def add(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score if closure is None else score + closure(b, h, i, j)

    return _kernel(q.device.type)(q, k, v, score_mod=add, block_mask=seen)


@cache
def _kernel(device_type: str) -> Any:
    """Uncompiled it computes every logit, which is what a CPU is asked for."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if device_type == "cuda" else flex_attention
