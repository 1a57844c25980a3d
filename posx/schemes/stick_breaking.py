"""Stick-breaking attention: from the nearest key on, each key takes a fraction of the weight that is left.

    A_ij = σ(z_ij) · Π_{j<k<i} (1 − σ(z_ik))        j < i strictly,  z = q·k / √D

It replaces the softmax. Recent keys are preferred because of the order of the product; positions are not used.

Source: Tan et al. 2024, arXiv 2410.17980, section 2.
Shapes: logits and weights [B, H, Tq, Tk], float32.
Parameters: none. Cost: a sum over the keys per query; logits of all pairs, in blocks of queries.
Pitfall: with the diagonal in the product, rows could sum to 2. Without it, the first token attends to nothing and its
output is zero; the remaining weight of a row is not redistributed. The product is computed as a sum of logarithms to
avoid underflow.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from posx.schemes.base import Scheme, Site
from posx.schemes.facts import Case, Fact


@dataclass
class StickBreakingConfig:
    """No settings."""


class StickBreaking(Scheme):
    """Stick-breaking attention."""

    Config = StickBreakingConfig
    outlook = (
        "The paper reports that a model trained at 2048 works well at 16384, with decreasing perplexity (Tan et al. "
        "2024)."
    )
    by_position = False

    def weights(self, logits: Tensor, site: Site) -> Tensor:
        n_queries, n_keys = logits.shape[-2:]
        i = torch.arange(n_queries, device=logits.device)[:, None] + site.q_start
        z = logits.masked_fill(torch.arange(n_keys, device=logits.device) >= i, float("-inf"))
        left = F.logsigmoid(-z)  # log of the fraction that a key leaves; 0 for masked keys
        after = left.flip(-1).cumsum(-1).flip(-1) - left
        return torch.exp(F.logsigmoid(z) + after)

    def facts(self, case: Case) -> list[Fact]:
        far = case.farthest
        return [Fact("factors in the farthest key's weight", f"up to {case.context - 1}",
                     f"{far}: it keeps much weight only if nearer keys take less than about 1/{far} each",
                     {"factors": far})]  # fmt: skip
