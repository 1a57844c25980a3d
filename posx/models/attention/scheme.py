"""Attention that a scheme computes itself, such as linear attention, through its hook ``attend``."""

from __future__ import annotations

from torch import Tensor

from posx.models.attention.context import Backend, Flow


class BySchemeItself(Backend):
    """:meth:`posx.schemes.base.Scheme.attend`."""

    name = "scheme"

    def attend(self, q: Tensor, k: Tensor, v: Tensor, flow: Flow) -> Tensor:
        return flow.scheme.attend(q, k, v, flow.site(k.shape[2] - q.shape[2], k.shape[2], q, k))
