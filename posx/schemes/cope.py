"""CoPE: contextual positions, which count only the tokens that the query selects.

    p_ij = min(p_max, Σ_{k=j..i} σ(z_ik))        logit(i, j) = z_ij + q_i · e[p_ij]        z = q·k / √D

A gate for each key determines how much it counts. The position of a key is the sum of the gates from it to the query.
For a fractional position, e is interpolated linearly between two rows.

Source: Golovneva et al. 2024, arXiv 2405.18719, section 4. Gates use scaled logits and q·e is unscaled, as in
x-transformers and in the authors' code with --cope-nodiv; without that flag, it also divides q·e by √D.
Shapes: e [layers, p_max + 1, D]; positions and logits [B, H, Tq, Tk], float32.
Parameters: layers · (p_max + 1) · D. Cost: a sum over the keys per query and two gathers per logit; logits of
all pairs, in blocks of queries.
Pitfall: future keys must not count. p_max is a hidden window: all keys beyond it share one position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from posx.errors import PosxError
from posx.schemes.base import ModelShape, Scheme, Site
from posx.schemes.facts import Case, Fact, digits


@dataclass
class CopeConfig:
    """``p_max`` is the last position; None: L − 1, so that e has L rows."""

    p_max: int | None = None


class Cope(Scheme):
    """Contextual positions."""

    Config = CopeConfig
    outlook = (
        "Its paper reports better generalization to longer contexts than relative positions with a cap (Golovneva et "
        "al. 2024)."
    )
    by_position = False

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__(config, shape)
        self.table = nn.Parameter(torch.empty(shape.n_layers, self.p_max + 1, shape.head_dim))

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.p_max is not None and config.p_max < 1:
            raise PosxError(f"scheme.p_max={config.p_max} must be at least 1.", "Omit it for L − 1.")

    @property
    def p_max(self) -> int:
        """The last position."""
        return max(1, self.shape.context - 1) if self.config.p_max is None else int(self.config.p_max)

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        nn.init.zeros_(parameter)  # as in the authors' code: training starts without positions

    def rescore(self, logits: Tensor, site: Site) -> Tensor:
        assert site.q is not None
        gates = torch.sigmoid(logits)  # 0 for masked keys
        p = gates.flip(-1).cumsum(-1).flip(-1).clamp(max=self.p_max)
        below = p.floor().long()
        rows = site.q.float() @ self.table[site.layer].float().T  # [B, H, Tq, p_max + 1]
        low, high = rows.gather(-1, below), rows.gather(-1, (below + 1).clamp(max=self.p_max))
        return logits + torch.lerp(low, high, p - below)

    def facts(self, case: Case) -> list[Fact]:
        before, now = (min(self.p_max, n / 2) for n in (case.context, case.keys))
        beyond = max(0, case.keys - self.p_max)
        return [
            Fact("position of the farthest key, gates half open", digits(before), digits(now), {"count": now}),
            Fact("keys at the cap p_max, all gates open", f"{max(0, case.context - self.p_max)}, p_max = {self.p_max}",
                 f"{beyond}", {"p_max": self.p_max, "capped": beyond}),
        ]  # fmt: skip
