"""Selects the attention backend. :func:`choose` is called once for all layers with the same scheme and shape.

* *dense*: batched products over all pairs in plain torch. The reference, and fast on GPUs at short contexts.
* *fused*: torch's scaled-dot-product attention (sdpa.py).
* *tiles*: on a CPU, tiles that fit in its cache (tiled.py). Without gradients, memory grows with ℓ, not with ℓ².
* *flex*: on a GPU, one kernel with the scheme's bias in it (flex.py).
* *blocks*: a block of queries at a time, for everything that no other backend supports (blockwise.py).
* *scheme*: attention that the scheme computes itself (scheme.py).

All give the same numbers, to rounding. Logits are q·k / √D. Addends and softmax are float32, whatever the precision of
the products.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from posx.extensions.base import Applied, Mask
from posx.models.attention import flex, sdpa
from posx.models.attention.blockwise import Blocks, group_pairs, in_blocks
from posx.models.attention.context import Backend, Call, Case, Flow
from posx.models.attention.dense import Dense
from posx.models.attention.scheme import BySchemeItself
from posx.models.attention.tiled import Tiled
from posx.schemes.base import Scheme

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (Dense(), sdpa.Sdpa(), Tiled(), flex.Flex(), Blocks(), BySchemeItself())
}
DENSE_BYTES = 256 * 2**20  # logits of a whole layer, without gradients
DENSE_BYTES_TRAINING = 512 * 2**20  # with gradients, which store them anyway
_forced = "auto"


@contextmanager
def forced(backend: str) -> Iterator[None]:
    """Use this backend, if supported, for calls that do not name one. For tests and measurements."""
    global _forced
    before, _forced = _forced, backend
    try:
        yield
    finally:
        _forced = before


def choose(scheme: Scheme, extension: Applied, call: Call, length: int, device: torch.device) -> Backend:
    """The backend for this call over ``length`` tokens; depends on torch's gradient mode."""
    capabilities = scheme.capabilities
    if capabilities.has_own_attention:
        return BACKENDS["scheme"]
    case = Case(
        capabilities,
        is_plain(scheme, extension),
        torch.is_grad_enabled(),
        call.batch,
        call.n_heads,
        scheme.shape.head_dim,
        length,
        call.queries or length,
        device,
    )
    # Without a bias, the factor of the logits can be applied to the queries, in any backend.
    by_logits = extension.sharpness() != 1 and not carries_sharpness(scheme)
    if call.block is not None or capabilities.needs_logits or moves_pairs(scheme, extension) or by_logits:
        return BACKENDS["blocks"]
    name = _forced if call.backend == "auto" else call.backend
    backend = BACKENDS[fastest(case) if name == "auto" else name]
    while not backend.serves(case):
        backend = BACKENDS[backend.instead(case)]
    return backend


def fastest(case: Case) -> str:
    """The name of the fastest backend for this case. It may not support the case."""
    if case.device.type == "cpu":
        if not case.training:
            return "fused" if sdpa.is_fast() else "tiles"
        # Tiles store their weights for the backward pass. Torch's kernel does not, so it is better for long contexts.
        if case.logit_bytes <= DENSE_BYTES_TRAINING:
            return "tiles"
        return "fused" if case.plain else "blocks"
    if case.plain:
        return "fused"
    if flex.is_fast(case):
        return "flex"
    return "dense" if case.logit_bytes <= (DENSE_BYTES_TRAINING if case.training else DENSE_BYTES) else "blocks"


def is_plain(scheme: Scheme, extension: Applied) -> bool:
    """Whether nothing is added to the logits, only the future is masked, and weights are their softmax."""
    return carries_sharpness(scheme) and not extension.masks()


def carries_sharpness(scheme: Scheme) -> bool:
    """Whether a factor of the logits can be applied to the queries instead: only if the logits are just q·k."""
    return not scheme.capabilities.has_bias and not scheme.capabilities.needs_logits


def moves_pairs(scheme: Scheme, extension: Applied) -> bool:
    """Whether the extension changes positions of pairs and the scheme supports that."""
    return "distances" in scheme.capabilities.accepts and bool(extension.branches())


def plan(scheme: Scheme, positions: Tensor, extension: Applied, call: Call, backend: Backend | None = None) -> Flow:
    """Prepare a pass over tokens at these ``positions`` ([T] or [B, T]), which the extension has already changed.

    ``backend``: the result of :func:`choose` for this call, if known.
    """
    length = positions.shape[-1]
    backend = backend or choose(scheme, extension, call, length, positions.device)
    flow = Flow(
        scheme,
        positions,
        scheme.prepare(positions, extension),
        extension,
        plain=is_plain(scheme, extension),
        backend=backend,
        block=call.block,
    )
    if extension:
        index = torch.arange(length, device=positions.device)
        temperature, sharpness = extension.temperature(index), extension.sharpness()
        if sharpness != 1 and carries_sharpness(scheme):
            temperature = (torch.ones_like(index).float() if temperature is None else temperature) * sharpness
            sharpness = 1.0
        branches = branches_of(scheme, positions, extension)
        flow = replace(flow, temperature=temperature, sharpness=sharpness, branches=branches)
    return backend.prepare(flow, call.n_heads)


def branches_of(scheme: Scheme, positions: Tensor, extension: Applied) -> tuple[tuple[Mask, Flow], ...]:
    """The extension's branches, prepared by the scheme; none if the scheme does not support distances."""
    if not moves_pairs(scheme, extension):
        return ()
    branches = []
    index = torch.arange(positions.shape[-1], device=positions.device)
    for branch in extension.branches():
        queries, keys = branch.queries(index), branch.keys(index)
        shared = scheme.prepare(torch.cat([keys, queries]), extension)
        flow = Flow(scheme, keys, shared, extension, query_positions=queries)
        branches.append((branch.where, flow))
    return tuple(branches)


def attend(q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
    """Attention output [B, H, Tq, D] of q [B, H, Tq, D] over k, v [B, H_kv, Tk, D], before rotation.

    The queries are the last Tq of the Tk tokens. H is a multiple of H_kv (grouped queries). The scheme rotates q and k
    first, separately for each branch of the extension.
    """
    assert flow.backend is not None
    if flow.branches:
        k, v = (_for_all_heads(x, q.shape[1]) for x in (k, v))
        return in_blocks(group_pairs(q, k, flow), v)
    q, k = flow.rotated(q, k)
    return attend_rotated(q, k, v, flow)


def attend_rotated(q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
    """:func:`attend` of q and k that are rotated already."""
    assert flow.backend is not None
    k, v = (_for_all_heads(x, q.shape[1]) for x in (k, v))
    return flow.backend.attend(q, k, v, flow)


def _for_all_heads(x: Tensor, n_heads: int) -> Tensor:
    """[B, H_kv, T, D] to [B, H, T, D]: heads of a group share keys and values."""
    groups = n_heads // x.shape[1]
    return x.repeat_interleave(groups, dim=1) if groups > 1 else x
