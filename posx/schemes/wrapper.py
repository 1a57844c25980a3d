"""What schemes around another scheme share: all that they do not change is the inner one's.

``scheme.inner`` names it, ``rope`` or ``{name: rope, base: 500}``; a run's config holds all of its settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from posx.errors import PosxError
from posx.extensions.base import Applied
from posx.schemes.base import Closure, ModelShape, Scheme, Site
from posx.schemes.facts import Case, Fact


class Wrapper(Scheme):
    """A scheme around ``inner``."""

    inner_fields = ("inner",)

    def __init__(self, config: Any, shape: ModelShape, inner: Sequence[Scheme]):
        super().__init__(config, shape)
        (self.inner,) = inner
        if self.inner.chooses_positions or self.inner.at(0) is not self.inner:
            raise PosxError(
                f"{type(self).__name__} cannot stand around {type(self.inner).__name__}, which chooses positions or "
                "layers itself and would not be asked.",
                "Name a scheme such as rope or alibi, or put one around the other the other way round.",
            )

        if self.chooses_positions and not self.inner.hears_positions:
            raise PosxError(
                f"{type(self).__name__} chooses positions, but {type(self.inner).__name__} does not hear where "
                "tokens stand.",
                "Try scheme.inner=sinusoidal, learned, rope or alibi.",
            )

    # What the class says of itself is the inner scheme's to say.
    accepts = property(lambda self: self.inner.accepts)
    masks = property(lambda self: self.inner.masks)
    by_position = property(lambda self: self.inner.by_position)
    per_layer = property(lambda self: self.inner.per_layer)
    hears_positions = property(lambda self: self.inner.hears_positions)
    embeds = property(lambda self: self.inner.embeds)
    bias_per_layer = property(lambda self: self.inner.bias_per_layer)
    bias_is_by_distance = property(lambda self: self.inner.bias_is_by_distance)
    has_bias = property(lambda self: self.inner.has_bias)
    has_own_attention = property(lambda self: self.inner.has_own_attention)
    has_values = property(lambda self: self.inner.has_values)
    needs_logits = property(lambda self: self.inner.needs_logits)
    outlook = property(lambda self: self.inner.outlook)
    token_width = property(lambda self: self.inner.token_width)
    last_position = property(lambda self: self.inner.last_position)

    @property
    def rotated(self) -> int:
        """How many dimensions of a head are rotated; 0: none."""
        return getattr(self.inner, "rotated", 0)

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        self.inner.initialise(name.removeprefix("inner."), parameter, generator)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return self.inner.embed(tokens, positions)

    def prepare(self, positions: Tensor, extension: Applied) -> Any:
        return self.inner.prepare(positions, extension)

    def rotate(self, q: Tensor, k: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        return self.inner.rotate(q, k, site)

    def bias(self, site: Site) -> Closure:
        return self.inner.bias(site)

    def rescore(self, logits: Tensor, site: Site) -> Tensor:
        return self.inner.rescore(logits, site)

    def weights(self, logits: Tensor, site: Site) -> Tensor:
        return self.inner.weights(logits, site)

    def values(self, weights: Tensor, site: Site) -> Tensor:
        return self.inner.values(weights, site)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, site: Site) -> Tensor:
        return self.inner.attend(q, k, v, site)

    def facts(self, case: Case) -> list[Fact]:
        return self.inner.facts(case)

    def report(self, tokens: Tensor) -> dict[str, float]:
        return self.inner.report(tokens)
