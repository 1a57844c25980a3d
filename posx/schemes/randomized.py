"""Randomized positions: in training, positions are a sorted sample of a longer range, so that large positions occur.

    positions of n tokens = sort(n distinct numbers of 0 .. M − 1),  drawn independently for each sequence of a batch

Order is preserved; distances grow by a factor of about M / n. The inner scheme uses these positions like any others.

Source: Ruoss et al. 2023, arXiv 2305.16843, section 3. The authors' code draws one sample per batch, and with ALiBi
draws distances instead of positions. It also draws positions in evaluation, as posx does by default, but here the
random stream depends only on the number of tokens, so evaluations are reproducible. ``evaluation`` can also be
``spread`` (evenly over the range) or ``first`` (0 .. n − 1).
Shapes: positions [T], in training [B, T], int64.
Parameters and cost: those of the inner scheme; a learned table has M rows.
Pitfall: M must be at least the longest evaluation length, because positions are distinct.
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
    """``inner``: a scheme; ``longest``: M in tokens, None: 64 · L; ``evaluation``: sample, spread or first."""

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

    # It chooses positions, so an extension cannot change them.
    def declare(self) -> Capabilities:
        inner = super().declare()
        return replace(inner, accepts=inner.accepts - {"positions", "distances"})

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.longest is not None and config.longest < shape.context:
            raise PosxError(
                f"scheme.longest={config.longest} is shorter than the context of {shape.context} tokens.",
                "Use the longest evaluation length, or more.",
            )
        if config.evaluation not in EVALUATION:
            raise PosxError(
                f"scheme.evaluation='{config.evaluation}' is not a valid choice.",
                "Use sample (as in the paper), spread or first.",
            )

    @classmethod
    def inner_shape(cls, config: Any, shape: ModelShape, place: int = 0) -> ModelShape:
        return replace(shape, places=cls.reach(config, shape))

    @staticmethod
    def reach(config: Any, shape: ModelShape) -> int:
        """M, the number of positions."""
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
        # The sample may depend only on the length: published numbers require the same positions.
        return self.train_positions(1, n, torch.Generator().manual_seed(n))[0].to(device)

    def facts(self, case: Case) -> list[Fact]:
        longest = self.reach(self.config, self.shape)
        gap = float(case.positions.double().diff().mean()) if case.length > 1 else 0.0
        new = int((case.positions >= longest).sum())
        now = f"{case.length} from the same range: {are_new(new)}"
        drawn = Fact("drawn positions", f"{case.context} of 0–{longest - 1}", now, {"new": new, "longest": longest})
        gaps = Fact("mean step between tokens", digits((longest + 1) / (case.context + 1)), digits(gap), {"gap": gap})
        return [drawn, gaps, *self.inner.facts(replace(case, places=longest, span=longest))]
