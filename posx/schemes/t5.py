"""T5 relative position bias: a learned addend per head and bucket of distances.

    logit(i, j) += b[h, bucket(i − j)]

Each bucket of the first half holds one distance. The other half is spaced logarithmically up to ``max_distance``;
longer distances share the last bucket.

Source: Raffel et al. 2019, arXiv 1910.10683, section 2.1; bucket boundaries as in the released code
(``bidirectional=False``). As there, all layers share one table.
Shapes: b [H, buckets]; the addend [1, H, Tq, Tk], float32.
Parameters: buckets · H. Cost: one gather and one addition per logit; the table is read once per forward pass.
Pitfall: with 32 buckets and max_distance 128, the last bucket starts at distance 113. For L < 128 several buckets would
never be trained, so ``max_distance`` defaults to min(128, L). ``scale`` multiplies the table: 1 in T5, √D in
x-transformers and in KERPLE's experiments, where it also lets Adam learn faster in a short training run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from posx.errors import PosxError
from posx.schemes.base import ModelShape
from posx.schemes.distance import DistanceBias
from posx.schemes.facts import Case, Fact, are_new, shared_fact


@dataclass
class T5Config:
    """``max_distance`` None: min(128, L)."""

    buckets: int = 32
    max_distance: int | None = None
    scale: float = 1.0


def bucket(distance: Tensor, buckets: int, max_distance: int) -> Tensor:
    """Bucket of each distance ≥ 0 (negative ones count as 0), int64."""
    exact = buckets // 2
    d = distance.clamp(min=0).float()
    share = torch.log(d.clamp(min=1) / exact) / math.log(max_distance / exact)
    logarithmic = exact + (share * (buckets - exact)).long()
    return torch.where(d < exact, d.long(), logarithmic.clamp(max=buckets - 1))


class T5(DistanceBias):
    """T5 bias, causal."""

    Config = T5Config
    outlook = (
        "Good at first, then worse: perplexity 19.65 at 512, 18.79 at 1012, 20.41 at 2512 and 25.91 at 4512 tokens, "
        "trained at 512 (Press et al. 2021, arXiv 2108.12409, table 2)."
    )

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__(config, shape)
        self.table = nn.Parameter(torch.empty(shape.n_heads, config.buckets))

    @staticmethod
    def reach(config: Any, shape: ModelShape) -> int:
        """``max_distance``, or its default."""
        return min(128, shape.context) if config.max_distance is None else config.max_distance

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.buckets < 2:
            raise PosxError(f"scheme.buckets={config.buckets} must be at least 2.", "T5 uses scheme.buckets=32.")
        if not 0 < config.scale < math.inf:
            raise PosxError(f"scheme.scale={config.scale:g} must be above 0.", "T5 uses scheme.scale=1.")
        if cls.reach(config, shape) <= config.buckets // 2:
            raise PosxError(
                f"The first {config.buckets // 2} buckets of t5 hold one distance each, so none is left below "
                f"max_distance={cls.reach(config, shape)}.",
                f"Set scheme.buckets below {2 * cls.reach(config, shape)}, or a larger scheme.max_distance.",
            )

    def addend(self, h: Tensor, distance: Tensor) -> Tensor:
        buckets, reach = self.config.buckets, self.reach(self.config, self.shape)
        return self.table[h, bucket(distance, buckets, reach)] * self.config.scale

    def facts(self, case: Case) -> list[Fact]:
        buckets, reach = self.config.buckets, self.reach(self.config, self.shape)
        trained, now = (set(bucket(d, buckets, reach).tolist()) for d in (torch.arange(case.span), case.distances))
        first = int((bucket(torch.arange(reach + 1), buckets, reach) < buckets - 1).sum())
        return [
            *super().facts(case),
            shared_fact("keys in the last bucket", first, case),
            Fact("buckets of the table", f"{len(trained)} of {buckets} trained", are_new(len(now - trained)),
                 {"trained": len(trained), "new": sorted(now - trained)}),
        ]  # fmt: skip
