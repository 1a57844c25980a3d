"""Base of schemes that wrap another scheme and forward everything that they do not change.

``scheme.inner`` is a name or settings: ``rope`` or ``{name: rope, base: 500}``. A run's config has all its settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from posx.errors import PosxError
from posx.extensions.base import Applied
from posx.schemes.base import Capabilities, Closure, ModelShape, Scheme, Site, chooses_positions
from posx.schemes.facts import Case, Fact


class Wrapper(Scheme):
    """A scheme that wraps ``inner``."""

    inner_fields = ("inner",)

    def __init__(self, config: Any, shape: ModelShape, inner: Sequence[Scheme]):
        super().__init__(config, shape)
        (self.inner,) = inner
        inside = self.inner.capabilities
        if inside.chooses_positions or self.inner.at(0) is not self.inner:
            raise PosxError(
                f"{type(self).__name__} cannot wrap {type(self.inner).__name__}, which chooses positions or layers "
                "itself.",
                "Use a scheme such as rope or alibi, or nest the two in the other order.",
            )
        if chooses_positions(self.overrides) and not inside.uses_positions:
            raise PosxError(
                f"{type(self).__name__} chooses positions, but {type(self.inner).__name__} does not use them.",
                "Try scheme.inner=sinusoidal, learned, rope or alibi.",
            )

    def declare(self) -> Capabilities:
        """Those of the inner scheme, unless a class for 0.3.0 sets its own. Subclasses replace what they change."""
        inner = replace(self.inner.capabilities, chooses_positions=chooses_positions(self.overrides))
        kind = inner.bias
        if self.bias_per_layer and self.stated("has_bias", inner.has_bias):
            kind = "layer"
        elif kind == "distance" and not self.stated("bias_is_by_distance", True):
            kind = "index"
        names = [field.name for field in fields(Capabilities) if hasattr(type(self), field.name)]
        return replace(inner, **{**{name: getattr(self, name) for name in names}, "bias": kind})

    @property
    def accepts(self) -> frozenset[str]:  # type: ignore[override]
        return self.inner.capabilities.accepts

    @property
    def masks(self) -> bool:  # type: ignore[override]
        return self.inner.capabilities.masks

    @property
    def by_position(self) -> bool:  # type: ignore[override]
        return self.inner.capabilities.by_position

    @property
    def bias_per_layer(self) -> bool:  # type: ignore[override]
        return self.inner.capabilities.bias_per_layer

    @property
    def outlook(self) -> str:  # type: ignore[override]
        """Published results of the inner scheme."""
        return self.inner.outlook

    @property
    def token_width(self) -> int:
        return self.inner.token_width

    @property
    def last_position(self) -> int | None:
        return self.inner.last_position

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
