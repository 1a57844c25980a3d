"""Stick-breaking attention: each key, from the nearest on, takes its share of what the nearer ones have left.

    A_ij = σ(z_ij) · Π_{j<k<i} (1 − σ(z_ik))        j < i strictly,  z = q·k / √D

It stands in place of the softmax. Recent keys come first by the order of the product alone: no position enters.

Source: Tan et al. 2024, arXiv 2410.17980, section 2.
Shapes: logits and weights [B, H, Tq, Tk], float32.
Parameters: none. Cost: a sum over the keys for each query; logits of all pairs, in blocks of queries.
Trap: with the diagonal in the product rows could sum to 2. Without it the first token attends to nothing and its output
is zero; what a row leaves is not given to anyone. The product is a sum of logarithms, or it would underflow.
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
    """Nothing to set."""


class StickBreaking(Scheme):
    """Attention by breaking a stick."""

    Config = StickBreakingConfig
    outlook = (
        "Its paper reports that a model trained at 2048 works well at 16384, with falling perplexity (Tan et al. 2024)."
    )
    by_position = False

    def weights(self, logits: Tensor, site: Site) -> Tensor:
        n_queries, n_keys = logits.shape[-2:]
        i = torch.arange(n_queries, device=logits.device)[:, None] + site.q_start
        z = logits.masked_fill(torch.arange(n_keys, device=logits.device) >= i, float("-inf"))
        left = F.logsigmoid(-z)  # what a key leaves: all of it, ln 1 = 0, where it is not seen
        after = left.flip(-1).cumsum(-1).flip(-1) - left
        return torch.exp(F.logsigmoid(z) + after)

    def facts(self, case: Case) -> list[Fact]:
        far = case.farthest
        return [Fact("factors in the farthest key's weight", f"up to {case.context - 1}",
                     f"{far}: it keeps much weight only if nearer keys take less than about 1/{far} each",
                     {"factors": far})]  # fmt: skip
