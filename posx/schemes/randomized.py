"""Randomized positions: a sequence is trained at a sorted sample of a longer range, so that far positions are known.

    positions of n tokens = sort(n distinct numbers of 0 .. M − 1),  drawn anew for each sequence of a batch

Order is kept, distances are stretched by about M / n. The inner scheme makes of them what it makes of any positions.

Source: Ruoss et al. 2023, arXiv 2305.16843, section 3. The authors' code draws one sample for a whole batch, and over
ALiBi distances instead of positions. There positions are drawn in evaluation too, as here by default, but from a
stream that depends on the number of tokens alone: an evaluation repeats. ``evaluation`` may also be ``spread`` (evenly
over the range) or ``first`` (0 .. n − 1).
Shapes: positions [T], in training [B, T], int64.
Parameters and cost: the inner scheme's; a learned table has M rows.
Trap: M must be at least the longest length that will be evaluated: there are not more distinct positions than that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from posx.errors import PosxError, Unsupported
from posx.schemes.base import Capabilities, ModelShape
from posx.schemes.facts import Case, Fact, are_new, digits
from posx.schemes.wrapper import Wrapper

EVALUATION = ("sample", "spread", "first")


@dataclass
class RandomizedConfig:
    """``inner`` scheme; ``longest`` M in tokens, None: 64 · L; ``evaluation``: sample, spread or first."""

    inner: Any = "sinusoidal"
    longest: int | None = None
    evaluation: str = "sample"


class Randomized(Wrapper):
    """Positions drawn from a longer range."""

    Config = RandomizedConfig
    outlook = (
        "On 15 algorithmic tasks it raised accuracy at lengths unseen in training by 12% on average (Ruoss et al. "
        "2023). In language modelling, distances are M / n times those in the text and vary between sequences."
    )

    # Positions are its own to choose: none is left to interpolate.
    def declare(self) -> Capabilities:
        plain = super().declare()
        return replace(plain, accepts=plain.accepts - {"positions", "distances"})

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.longest is not None and config.longest < shape.context:
            raise PosxError(
                f"scheme.longest={config.longest} has too few positions for a context of {shape.context} tokens.",
                "Give the longest length that will be evaluated.",
            )
        if config.evaluation not in EVALUATION:
            raise PosxError(
                f"scheme.evaluation is sample, spread or first, but '{config.evaluation}' was given.",
                "The paper draws in evaluation too: scheme.evaluation=sample.",
            )

    @classmethod
    def inner_shape(cls, config: Any, shape: ModelShape, place: int = 0) -> ModelShape:
        return replace(shape, places=cls.reach(config, shape))

    @staticmethod
    def reach(config: Any, shape: ModelShape) -> int:
        """M."""
        return 64 * shape.context if config.longest is None else int(config.longest)

    @property
    def last_position(self) -> int:
        return self.reach(self.config, self.shape) - 1

    def train_positions(self, rows: int, n: int, generator: torch.Generator) -> Tensor:
        longest = self.reach(self.config, self.shape)
        return torch.stack([torch.randperm(longest, generator=generator)[:n].sort().values for _ in range(rows)])

    def positions(self, n: int, device: torch.device | None = None) -> Tensor:
        longest = self.reach(self.config, self.shape)
        if n > longest:
            raise Unsupported(f"randomized positions end at {longest}.", f"Evaluate up to {longest} tokens.")
        if self.config.evaluation == "first":
            return torch.arange(n, device=device)
        if self.config.evaluation == "spread":
            return (torch.arange(n, device=device) * (longest - 1)) // max(1, n - 1)
        # The draw depends on the length alone, which every published number of this setting rests on.
        return self.train_positions(1, n, torch.Generator().manual_seed(n))[0].to(device)

    def facts(self, case: Case) -> list[Fact]:
        longest = self.reach(self.config, self.shape)
        gap = float(case.positions.double().diff().mean()) if case.length > 1 else 0.0
        new = int((case.positions >= longest).sum())
        own = Fact("drawn positions", f"{case.context} of 0–{longest - 1}",
                   f"{case.length} from the same range: {are_new(new)}", {"new": new, "longest": longest})  # fmt: skip
        gaps = Fact("mean step between tokens", digits((longest + 1) / (case.context + 1)), digits(gap), {"gap": gap})
        return [own, gaps, *self.inner.facts(replace(case, places=longest, span=longest))]
