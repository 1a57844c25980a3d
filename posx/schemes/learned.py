"""Learned positions: row E[p] of a table with L rows, added to (or concatenated with) the token vector.

Source: GPT-2 (Radford et al. 2019); BERT (arXiv 1810.04805).
Shapes: E [L, width]; position vectors [T, width].
Parameters: L · width. Cost: one gather per forward pass.
Pitfall: there is no row after L − 1. Longer inputs are refused, never clamped; ``--extension interpolate`` reads
between the rows (a fractional position is a weighted mean of the two adjacent rows).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from posx.errors import Unsupported
from posx.schemes.base import ModelShape
from posx.schemes.embedding import EmbeddingConfig, PositionEmbedding
from posx.schemes.facts import Case, Fact, steps, upto


@dataclass
class LearnedConfig(EmbeddingConfig):
    """One row for each position of the training context."""


class Learned(PositionEmbedding):
    """A trained vector for each position; positions end at the training context."""

    Config = LearnedConfig
    outlook = (
        "It cannot run: a position without a row has no input. Interpolating the table gives vectors the model was "
        "not trained on; published models that do this are fine-tuned (vision transformers at a higher resolution)."
    )

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__(config, shape)
        self.table = nn.Parameter(torch.empty(shape.places or shape.context, self.width))

    @property
    def last_position(self) -> int | None:
        return len(self.table) - 1

    def vectors(self, positions: Tensor) -> Tensor:
        rows = self.table.shape[0]
        if positions.dtype.is_floating_point:
            below = positions.floor().long()
            self._refuse_past_the_end(below, rows)
            above = (below + 1).clamp(max=rows - 1)
            weight = (positions - below)[..., None]
            return torch.lerp(self.table[below], self.table[above], weight.to(self.table.dtype))
        self._refuse_past_the_end(positions, rows)
        return self.table[positions]

    @staticmethod
    def _refuse_past_the_end(positions: Tensor, rows: int) -> None:
        if positions.numel() and int(positions.max()) >= rows:
            raise Unsupported(
                f"learned positions end at {rows}.",
                f"Try --extension interpolate, or a length up to {rows}.",
            )

    def facts(self, case: Case) -> list[Fact]:
        last, rows = float(case.positions.max()), len(self.table)
        missing = int((case.positions > rows - 1).sum())
        status = f"{missing} have no row" if missing else "all have rows"
        return [Fact("positions", f"{rows} rows, {upto(rows - 1)}", f"{upto(last)}{steps(case)}: {status}",
                     {"missing": missing, "last": last})]  # fmt: skip
