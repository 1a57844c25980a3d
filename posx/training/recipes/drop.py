"""drop: the rotations of a rope model are left out and its weights trained on at L, as a model without positions.

    scheme → nope, every weight as it was

Source: Gelberg et al. 2025, arXiv 2512.12167, which also multiplies logits at test time by a factor that grows with
ℓ / L: an extension, no part of the recipe.
Trap: without the training on, attention that relied on rotations says little at any length.
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
    """The scheme becomes nope."""

    name = "drop"
    repeats = False  # nothing is left to drop

    def prepare(self, config: RunConfig, scheme: Scheme, extensions: list[Extension], catalog: Catalog) -> RunConfig:
        if not rotates_only(scheme):
            raise PosxError(
                f"drop leaves out rotations and nothing else, and does not fit {config.scheme['name']}.",
                "It fits rope, partial-rope, p-rope, xpos, and layers of them and of nope.",
            )
        config.scheme = complete_scheme("nope", model_shape(config.model, config.base_context), catalog)
        return config

    def label(self, first: str, tuning: str, train: TrainConfig) -> str:
        return f"{first}, dropped + {tuning}"

    def settings(self, base_context: int, context: Any) -> dict[str, Any]:
        return {"train.context": base_context}

    def usable(self, extensions: list[str], parse: Callable[[str], list[Extension]]) -> list[str]:
        return ["none"]  # a model without positions has nothing to extend


def rotates_only(scheme: Scheme) -> bool:
    """Whether rotations are all that it does, so that without them the model is that of nope, weight by weight."""
    if not scheme.capabilities.rotated or next(scheme.parameters(), None) is not None:
        return False
    layers = [scheme.at(layer).capabilities for layer in range(scheme.shape.n_layers)]
    return not any(one.embeds or one.has_bias or one.needs_logits or one.has_own_attention for one in layers)
