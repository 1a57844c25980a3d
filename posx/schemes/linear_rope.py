"""Rope in linear attention: rotated features in the numerator, unrotated features in the denominator.

    out_i = Σ_{j≤i} (R_i φ(q_i))·(R_j φ(k_j)) v_j / Σ_{j≤i} φ(q_i)·φ(k_j)        φ(x) = elu(x) + 1

A running sum of key–value products summarizes all previous keys, so cost is linear in the length. Weights can be
negative and do not sum to one.

Source: Su et al. 2021, arXiv 2104.09864, section 3.3, equation 19; φ of Katharopoulos et al. 2020, arXiv 2006.16236.
Shapes: q, k, v [B, H, T, D]; the running sums [B, H, D, D] and [B, H, D], float32.
Parameters: none. Cost: H · D² per token, and products of pairs within chunks of 128 tokens.
Pitfall: with rotated features, the denominator could be zero. There are no logits: biases, masks and windows are
unsupported.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from posx.schemes.base import Site
from posx.schemes.facts import Case, Fact
from posx.schemes.rope import Rope

CHUNK = 128  # tokens


class LinearRope(Rope):
    """Linear attention with rotary positions."""

    outlook = ""  # rope's published results are for softmax attention
    masks = False
    accepts = frozenset({"spectrum"})

    def rotate(self, q: Tensor, k: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        return q, k  # only their features are rotated, in the numerator

    def attend(self, q: Tensor, k: Tensor, v: Tensor, site: Site) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):  # running sums in bf16 would lose small addends
            q, k, values = (F.elu(q.float()) + 1, F.elu(k.float()) + 1, v.float())
            rotated_q, rotated_k = super().rotate(q, k, site)
            state = values.new_zeros(*k.shape[:2], k.shape[3], v.shape[3])
            total = values.new_zeros(*k.shape[:2], k.shape[3])
            out = []
            for start in range(0, k.shape[2], CHUNK):
                keys = slice(start, min(k.shape[2], start + CHUNK))
                first = max(start, site.q_start)
                if first < keys.stop:  # queries of this chunk; a tail may start in a later chunk
                    rows = slice(first - site.q_start, keys.stop - site.q_start)
                    seen = torch.ones(keys.stop - first, keys.stop - start, device=q.device).tril_(first - start)
                    pairs = (rotated_q[:, :, rows] @ rotated_k[:, :, keys].mT) * seen
                    numerator = rotated_q[:, :, rows] @ state + pairs @ values[:, :, keys]
                    sums = k[:, :, keys].cumsum(2)[:, :, first - start :] + total[:, :, None]
                    out.append(numerator / (q[:, :, rows] * sums).sum(-1, keepdim=True))
                state = state + rotated_k[:, :, keys].mT @ values[:, :, keys]
                total = total + k[:, :, keys].sum(2)
            return torch.cat(out, dim=2).to(v.dtype)

    def facts(self, case: Case) -> list[Fact]:
        now = f"{case.keys}: there is no softmax to select among them"
        return [
            *super().facts(case),
            Fact("terms in numerator and denominator", f"up to {case.context}", now, {"products": case.keys}),
        ]
