"""Another scheme in each layer: ``scheme.layers=[rope,rope,rope,nope]``, from the first layer on and again.

Source: rope and no positions in turn: Yang et al. 2025, arXiv 2501.18795 ("RNoPE"); three layers of rope to one
without, as in SmolLM3.
Shapes: those of the schemes.
Parameters and cost: those of the schemes. Two layers share the parameters of a scheme where they share its place in the
list, as in any other scheme.
Trap: what is added to the token vectors reaches all layers, so that only schemes inside attention can differ by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from posx.errors import PosxError
from posx.schemes.base import Capabilities, ModelShape, Scheme


@dataclass
class LayersConfig:
    """``layers`` are schemes in the order of the model's layers; a shorter list begins again."""

    layers: list[Any] = field(default_factory=lambda: ["rope", "rope", "rope", "nope"])


class Layers(Scheme):
    """Schemes by layer."""

    Config = LayersConfig
    outlook = (
        "With rope in some layers and no positions in others, models handled longer contexts better than with rope "
        "alone (Yang et al. 2025, tuned at the longer context). Without fine-tuning, rope's layers have new angles."
    )
    inner_fields = ("layers",)

    def __init__(self, config: Any, shape: ModelShape, inner: Sequence[Scheme]):
        super().__init__(config, shape)
        self.inner = nn.ModuleList(inner)
        for one in inner:
            if one.capabilities.embeds or one.capabilities.chooses_positions or one.at(0) is not one:
                raise PosxError(
                    f"{type(one).__name__} acts on all layers, and cannot be that of one.",
                    "Name schemes that act inside attention, such as rope, alibi or nope.",
                )

    def declare(self) -> Capabilities:
        """An extension acts where one of the schemes listens; the rest is asked of each layer's scheme (:meth:`at`)."""
        each = [self.at(layer).capabilities for layer in range(len(self.inner))]
        return Capabilities(
            accepts=frozenset().union(*(one.accepts for one in each)),
            masks=all(one.masks for one in each),
            by_position=all(one.by_position for one in each),
            uses_positions=any(one.uses_positions for one in each),
            rotated=max(one.rotated for one in each),
        )

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if not config.layers or len(config.layers) > shape.n_layers:
            raise PosxError(
                f"scheme.layers names {len(config.layers)} schemes for a model of {shape.n_layers} layers.",
                "Name one for each layer, or fewer: the list begins again.",
            )

    @classmethod
    def inner_shape(cls, config: Any, shape: ModelShape, place: int = 0) -> ModelShape:
        mine = range(place, shape.n_layers, max(1, len(config.layers)))
        return replace(shape, n_layers=max(1, len(mine)))  # no parameters for layers that another scheme has

    def at(self, layer: int) -> Scheme:
        found = self.inner[layer % len(self.inner)]
        assert isinstance(found, Scheme)
        return found

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        _, number, own = name.split(".", 2)
        self.at(int(number)).initialise(own, parameter, generator)
