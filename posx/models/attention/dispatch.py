"""Which backend computes attention. :func:`choose` decides once for layers that are alike; they run its choice.

* *dense*: batched products over all pairs, plain torch. The reference, and fast on a GPU at short contexts.
* *fused*: torch's own scaled-dot-product attention (sdpa.py).
* *tiles*: on a CPU, by tiles that fit its cache (tiled.py). Without gradients memory grows with ℓ, not with ℓ².
* *flex*: on a GPU, one kernel with the scheme's bias in it (flex.py).
* *blocks*: some queries at a time, for everything that none of the others serves (blockwise.py).
* *scheme*: what the scheme computes by itself (scheme.py).

All give the same numbers, to rounding. Logits are q·k / √D. Addends and softmax are float32 whatever the precision of
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
from posx.models.attention.blockwise import Blocks, in_blocks, ways_of
from posx.models.attention.context import Backend, Call, Case, Flow
from posx.models.attention.dense import Dense
from posx.models.attention.scheme import BySchemeItself
from posx.models.attention.tiled import Tiled
from posx.schemes.base import Scheme

BACKENDS: dict[str, Backend] = {
    one.name: one for one in (Dense(), sdpa.Sdpa(), Tiled(), flex.Flex(), Blocks(), BySchemeItself())
}
DENSE_BYTES = 256 * 2**20  # logits of a whole layer, without gradients
DENSE_BYTES_TRAINING = 512 * 2**20  # with gradients they are kept anyway
_forced = "auto"


@contextmanager
def forced(backend: str) -> Iterator[None]:
    """Have every call that does not name a backend take this one, where it serves. For tests and measurements."""
    global _forced
    before, _forced = _forced, backend
    try:
        yield
    finally:
        _forced = before


def choose(scheme: Scheme, extension: Applied, call: Call, length: int, device: torch.device) -> Backend:
    """The backend of this call over ``length`` tokens, with or without gradients as is torch's mode."""
    does = scheme.capabilities
    if does.has_own_attention:
        return BACKENDS["scheme"]
    case = Case(
        does,
        is_plain(scheme, extension),
        torch.is_grad_enabled(),
        call.batch,
        call.n_heads,
        scheme.shape.head_dim,
        length,
        call.queries or length,
        device,
    )
    # Without a bias queries can carry the factor of the logits, to any backend; else it meets them in blocks.
    by_logits = extension.sharpness() != 1 and not carries_sharpness(scheme)
    if call.block is not None or does.needs_logits or moves_pairs(scheme, extension) or by_logits:
        return BACKENDS["blocks"]
    name = _forced if call.backend == "auto" else call.backend
    backend = BACKENDS[fastest(case) if name == "auto" else name]
    while not backend.serves(case):
        backend = BACKENDS[backend.instead(case)]
    return backend


def fastest(case: Case) -> str:
    """The name of the backend that is fastest for what none of the others must compute."""
    if case.device.type == "cpu":
        if not case.training:
            return "fused" if sdpa.is_fast() else "tiles"
        # Tiles keep their weights for the backward pass: for a long context torch's kernel, which does not, is better.
        if case.logit_bytes <= DENSE_BYTES_TRAINING:
            return "tiles"
        return "fused" if case.plain else "blocks"
    if case.plain:
        return "fused"
    if flex.is_fast(case):
        return "flex"
    return "dense" if case.logit_bytes <= (DENSE_BYTES_TRAINING if case.training else DENSE_BYTES) else "blocks"


def is_plain(scheme: Scheme, extension: Applied) -> bool:
    """Whether nothing is added to the logits, only the future is masked, and their softmax weighs the values."""
    return carries_sharpness(scheme) and not extension.masks()


def carries_sharpness(scheme: Scheme) -> bool:
    """Whether a factor of the logits may be put on the queries: nothing but q·k is in them."""
    return not scheme.capabilities.has_bias and not scheme.capabilities.needs_logits


def moves_pairs(scheme: Scheme, extension: Applied) -> bool:
    """Whether some pairs stand elsewhere for this scheme, which must know distances."""
    return "distances" in scheme.capabilities.accepts and bool(extension.branches())


def plan(scheme: Scheme, positions: Tensor, extension: Applied, call: Call, backend: Backend | None = None) -> Flow:
    """Prepare a pass over tokens at these ``positions`` ([T] or [B, T]), which the extension has already changed.

    ``backend``: what :func:`choose` returned for this call, where it was asked already.
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
    """The extension's branches, as this scheme prepares for them; none where it knows no distances."""
    if not moves_pairs(scheme, extension):
        return ()
    found = []
    index = torch.arange(positions.shape[-1], device=positions.device)
    for branch in extension.branches():
        queries, keys = branch.queries(index), branch.keys(index)
        shared = scheme.prepare(torch.cat([keys, queries]), extension)
        own = Flow(scheme, keys, shared, extension, query_positions=queries)
        found.append((branch.where, own))
    return tuple(found)


def attend(q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
    """Attention output [B, H, Tq, D] of q [B, H, Tq, D] over k, v [B, H_kv, Tk, D], as a layer makes them.

    The queries are the last Tq of the Tk tokens. H is a multiple of H_kv (grouped queries). The scheme rotates q and k
    first, for each branch of the extension by itself.
    """
    assert flow.backend is not None
    if flow.branches:
        k, v = (_for_all_heads(x, q.shape[1]) for x in (k, v))
        return in_blocks(ways_of(q, k, flow), v)
    q, k = flow.rotated(q, k)
    return attend_rotated(q, k, v, flow)


def attend_rotated(q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
    """:func:`attend` of q and k that are rotated already."""
    assert flow.backend is not None
    k, v = (_for_all_heads(x, q.shape[1]) for x in (k, v))
    return flow.backend.attend(q, k, v, flow)


def _for_all_heads(x: Tensor, n_heads: int) -> Tensor:
    """[B, H_kv, T, D] to [B, H, T, D]: heads of one group share their keys and values."""
    groups = n_heads // x.shape[1]
    return x.repeat_interleave(groups, dim=1) if groups > 1 else x
