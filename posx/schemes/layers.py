"""A different scheme in each layer: ``scheme.layers=[rope,rope,rope,nope]``, repeated if the model has more layers.

Source: rope alternating with no positions: Yang et al. 2025, arXiv 2501.18795 ("RNoPE"); three layers of rope for each
layer without, as in SmolLM3.
Shapes: those of the inner schemes.
Parameters and cost: those of the inner schemes. Layers that use the same entry of the list share its parameters, as
the layers of any other scheme do.
Pitfall: vectors that are added to the token vectors reach all layers, so only schemes inside attention can differ
between layers.
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
    """``layers``: schemes in the order of the model's layers; a shorter list repeats."""

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
        for scheme in inner:
            if scheme.capabilities.embeds or scheme.capabilities.chooses_positions or scheme.at(0) is not scheme:
                raise PosxError(
                    f"{type(scheme).__name__} acts on all layers, so it cannot be used for only one.",
                    "Use schemes that act inside attention, such as rope, alibi or nope.",
                )

    def declare(self) -> Capabilities:
        """An extension applies if one of the schemes supports it. The rest differs by layer, see :meth:`at`."""
        layers = [self.at(number).capabilities for number in range(len(self.inner))]
        return Capabilities(
            accepts=frozenset().union(*(layer.accepts for layer in layers)),
            masks=all(layer.masks for layer in layers),
            by_position=all(layer.by_position for layer in layers),
            uses_positions=any(layer.uses_positions for layer in layers),
            rotated=max(layer.rotated for layer in layers),
        )

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if not config.layers or len(config.layers) > shape.n_layers:
            raise PosxError(
                f"scheme.layers names {len(config.layers)} schemes for a model of {shape.n_layers} layers.",
                "Give at least one, and at most one per layer; a shorter list repeats.",
            )

    @classmethod
    def inner_shape(cls, config: Any, shape: ModelShape, place: int = 0) -> ModelShape:
        own_layers = range(place, shape.n_layers, max(1, len(config.layers)))
        return replace(shape, n_layers=max(1, len(own_layers)))  # parameters only for its own layers

    def at(self, layer: int) -> Scheme:
        scheme = self.inner[layer % len(self.inner)]
        assert isinstance(scheme, Scheme)
        return scheme

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        _, number, inner_name = name.split(".", 2)
        self.at(int(number)).initialise(inner_name, parameter, generator)
