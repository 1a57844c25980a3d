"""Attention that a scheme computes by itself, such as linear attention."""

from __future__ import annotations

from torch import Tensor

from posx.models.attention.context import Backend, Flow


class Own(Backend):
    """:meth:`posx.schemes.base.Scheme.attend`."""

    name = "own"

    def attend(self, q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
        return flow.scheme.attend(q, k, v, flow.site(k.shape[2] - q.shape[2], k.shape[2], q, k))
