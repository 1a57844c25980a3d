"""drop: remove the rotations of a rope model and continue its training at L, as a model without positions.

    scheme → nope, all weights unchanged

Source: Gelberg et al. 2025, arXiv 2512.12167, which also multiplies logits at test time by a factor that grows with
ℓ / L. That is an extension, not part of the recipe.
Pitfall: without the further training, attention that relied on rotations fails at any length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from posx.config.catalog import Catalog
from posx.config.schema import RunConfig, TrainConfig
from posx.errors import PosxError
from posx.extensions.base import Extension
from posx.models.build import complete_scheme
from posx.models.decoder import model_shape
from posx.schemes.base import Scheme
from posx.training.recipes.base import Recipe


class Drop(Recipe):
    """The config with the scheme nope."""

    name = "drop"
    repeats = False  # there is nothing left to drop

    def prepare(self, config: RunConfig, scheme: Scheme, extensions: list[Extension], catalog: Catalog) -> RunConfig:
        if not rotates_only(scheme):
            raise PosxError(
                f"drop removes rotations only, and does not support {config.scheme['name']}.",
                "It supports rope, partial-rope, p-rope, xpos, and layers of these and nope.",
            )
        config.scheme = complete_scheme("nope", model_shape(config.model, config.base_context), catalog)
        return config

    def label(self, first: str, tuning: str, train: TrainConfig) -> str:
        return f"{first}, dropped + {tuning}"

    def settings(self, base_context: int, context: Any) -> dict[str, Any]:
        return {"train.context": base_context}

    def usable(self, extensions: list[str], parse: Callable[[str], list[Extension]]) -> list[str]:
        return ["none"]  # a model without positions supports no extension of positions


def rotates_only(scheme: Scheme) -> bool:
    """Whether the scheme only rotates, so that the model without rotations equals nope with the same weights."""
    if not scheme.capabilities.rotated or next(scheme.parameters(), None) is not None:
        return False
    layers = [scheme.at(layer).capabilities for layer in range(scheme.shape.n_layers)]
    return not any(one.embeds or one.has_bias or one.needs_logits or one.has_own_attention for one in layers)
