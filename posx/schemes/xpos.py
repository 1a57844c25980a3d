"""xPos: rope in which queries shrink and keys grow with position, so that logits of distant pairs decay.

    q, k rotated as by rope;  pair k of q · ζ_k^(p / scale_base),  of k · ζ_k^(−p / scale_base)
    ζ_k = (2k + 0.4 D) / (1.4 D),  k = 0 .. D/2 − 1

In the logit, pair k is multiplied by ζ_k^((i − j) / scale_base) ≤ 1: fast pairs decay first.

Source: Sun et al. 2022, arXiv 2212.10554, section 3.2; layout and the constants 0.4 and 512 as in torchscale.
Shapes: as rope; the factors ζ^p are [T, D/2], float32.
Parameters: none. Cost: as rope.
Pitfall: counted from 0, the factors exceed float32's exact range on long inputs (2.6e17 at 16,384), so positions are
counted from the middle of the sequence; queries and keys must share that middle. From 139 · scale_base tokens on
(71,000) they overflow float32 even so: longer inputs are refused. The decay has one direction: causal attention only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posx.errors import PosxError, Unsupported
from posx.extensions.base import Applied
from posx.schemes.base import ModelShape, Site
from posx.schemes.facts import Case, Fact, digits
from posx.schemes.rope import Rope, RopeConfig, of_queries_and_keys, rotate_pairs

SPAN = 139.0  # longest input in units of scale_base: ζ_0^(± SPAN / 2) is 1e±38


@dataclass
class XposConfig(RopeConfig):
    """``scale_base``: tokens over which pair k decays by ζ_k."""

    scale_base: float = 512.0


class Xpos(Rope):
    """Extrapolatable rotary positions."""

    Config = XposConfig
    outlook = (
        "Its paper extrapolates with blockwise masks, that is, with a window (Sun et al. 2022, section 3.3); without a "
        "window the angles are as new as rope's, only attenuated."
    )

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        super().check(config, shape)
        if not 0 < config.scale_base < math.inf or shape.context > SPAN * config.scale_base:
            raise PosxError(
                f"scheme.scale_base={config.scale_base:g} must be above {shape.context / SPAN:.3g}, or factors "
                f"overflow float32 at {shape.context} tokens.",
                "The paper uses 512.",
            )

    def zeta(self, device: torch.device | None = None) -> Tensor:
        """ζ_k, float32 [R/2]."""
        even = torch.arange(0, self.rotated, 2, device=device, dtype=torch.float32)
        return (even + 0.4 * self.rotated) / (1.4 * self.rotated)

    def prepare(self, positions: Tensor, extension: Applied) -> tuple[Tensor, ...]:
        cos, sin = super().prepare(positions, extension)
        p = positions.float()
        first, last = p.amin(-1, keepdim=True), p.amax(-1, keepdim=True)
        longest = SPAN * self.config.scale_base
        if float((last - first).max()) > longest:
            raise Unsupported(
                f"xpos factors overflow float32 beyond {int(longest)} tokens.",
                f"Evaluate up to {int(longest)}, or train with a larger scheme.scale_base.",
            )
        middle = (first + last) / 2
        power = ((p - middle) / self.config.scale_base)[..., None]
        return cos, sin, (self.zeta(positions.device) ** power).view(cos.shape)

    def rotate(self, q: Tensor, k: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        (cos_q, sin_q, scale_q), (cos, sin, scale) = of_queries_and_keys(site.shared, q, k)
        return rotate_pairs(q, cos_q * scale_q, sin_q * scale_q), rotate_pairs(k, cos / scale, sin / scale)

    def facts(self, case: Case) -> list[Fact]:
        ends = self.zeta().double()[[0, -1]]
        before, now = ((ends ** (d / self.config.scale_base)).tolist() for d in (case.span - 1, case.reach))
        return [*super().facts(case), Fact(
            f"remaining fraction of the farthest key's logit, k = 0 … {self.rotated // 2 - 1}",
            f"{digits(before[0])} … {digits(before[1])}", f"{digits(now[0])} … {digits(now[1])}", {"left": now},
        )]  # fmt: skip
