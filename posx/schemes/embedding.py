"""What sinusoidal and learned positions share: a vector per position, added to or beside the token vector.

``combine=add``: the first layer sees ``token + position``. ``combine=concat``: it sees ``[token ; position]``,
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
    """A vector for each position. Subclasses say which: :meth:`vectors`."""

    accepts = frozenset({"positions"})

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if config.combine not in ("add", "concat"):
            raise PosxError(
                f"scheme.combine is add or concat, but '{config.combine}' was given.",
                "Try scheme.combine=add.",
            )
        if config.width is None:
            return
        if config.combine == "add":
            raise PosxError(
                "scheme.width only means something for scheme.combine=concat: an added position vector is as "
                "wide as the model.",
                "Drop scheme.width, or add scheme.combine=concat.",
            )
        if not 0 < config.width < shape.d_model:
            raise PosxError(
                f"scheme.width={config.width} does not fit beside tokens in a model of width {shape.d_model}.",
                f"Give a width from 1 to {shape.d_model - 1}.",
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
        """Position vectors [..., width] of positions [...], which may be fractions under an extension."""
        raise NotImplementedError

    def scaled(self, tokens: Tensor) -> Tensor:
        """Token vectors as they enter the sum."""
        return tokens * self.shape.d_model**0.5 if self.config.scale_tokens else tokens

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        table = self.vectors(positions).to(tokens.dtype)
        if self.config.combine == "add":
            return self.scaled(tokens) + table
        return torch.cat([self.scaled(tokens), table.expand(*tokens.shape[:-1], self.width)], dim=-1)

    def report(self, tokens: Tensor) -> dict[str, float]:
        """RMS of both parts of the sum: where one is far larger, it swamps the other."""
        positions = torch.arange(self.shape.context, device=tokens.device)
        return {"rms_tokens": rms(self.scaled(tokens)), "rms_positions": rms(self.vectors(positions))}
