"""Base class of sinusoidal and learned positions: a vector per position, combined with the token vector.

``combine=add``: the first layer's input is ``token + position``. ``combine=concat``: it is ``[token ; position]``,
and the token table is narrower by the width of the position vector, so that the model does not grow. The tied
output head then reads only the token part of the last layer's output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posx.errors import PosxError
from posx.schemes.base import ModelShape, Scheme, rms


@dataclass
class EmbeddingConfig:
    """``width`` is the width of a concatenated position vector; by default a quarter of the model's."""

    combine: str = "add"
    width: int | None = None
    scale_tokens: bool = False


class PositionEmbedding(Scheme):
    """A vector for each position. Subclasses define it in :meth:`vectors`."""

    accepts = frozenset({"positions"})

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.combine not in ("add", "concat"):
            raise PosxError(
                f"scheme.combine='{config.combine}' is not a valid choice.",
                "Use scheme.combine=add or concat.",
            )
        if config.width is None:
            return
        if config.combine == "add":
            raise PosxError(
                "scheme.width requires scheme.combine=concat: an added position vector is as wide as the model.",
                "Remove scheme.width, or add scheme.combine=concat.",
            )
        if not 0 < config.width < shape.d_model:
            raise PosxError(
                f"scheme.width={config.width} does not fit in a model of width {shape.d_model}.",
                f"Use a width from 1 to {shape.d_model - 1}.",
            )

    @property
    def width(self) -> int:
        """Width of a position vector."""
        if self.config.combine == "add":
            return self.shape.d_model
        return self.config.width or max(2, self.shape.d_model // 4)

    @property
    def token_width(self) -> int:
        return self.shape.d_model - (self.width if self.config.combine == "concat" else 0)

    def vectors(self, positions: Tensor) -> Tensor:
        """Position vectors [..., width] of positions [...], which may be fractional with an extension."""
        raise NotImplementedError

    def scaled(self, tokens: Tensor) -> Tensor:
        """Token vectors, scaled if ``scale_tokens`` is set."""
        return tokens * self.shape.d_model**0.5 if self.config.scale_tokens else tokens

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        table = self.vectors(positions).to(tokens.dtype)
        if self.config.combine == "add":
            return self.scaled(tokens) + table
        return torch.cat([self.scaled(tokens), table.expand(*tokens.shape[:-1], self.width)], dim=-1)

    def report(self, tokens: Tensor) -> dict[str, float]:
        """RMS of token and position vectors: if one is much larger, it drowns out the other."""
        positions = torch.arange(self.shape.context, device=tokens.device)
        return {"rms_tokens": rms(self.scaled(tokens)), "rms_positions": rms(self.vectors(positions))}
