"""Recipes of a fine-tune: ``train.recipe``, for `posx train --from RUN`.

*drop*: the rotations of a rope model are left out and its weights trained on at L, as a model without positions.

    scheme → nope, every weight as it was

Source: Gelberg et al. 2025, arXiv 2512.12167, which also multiplies logits at test time by a factor that grows with
ℓ / L: an extension, no part of the recipe.
Trap: without the training on, attention that relied on rotations says little at any length.

*pose*: windows of n tokens, the context of the fine-tune, at positions that skip once, so that all distances up to
the ``train.reach`` ℓ come up.

    tokens 0 .. l − 1 at their place, the others at their place + u        l of 1 .. n − 1,  u of 0 .. ℓ − n
    their text is that of the window, and from l on that v tokens further  v of 0 .. what the document has left

l, u and v are uniform, and drawn anew for each window. An extension is trained with at the scale of ℓ.

Source: Zhu et al. 2023, arXiv 2309.10400, section 3.2 with N = 2, u_0 = v_0 = 0 and v drawn, as it does by default;
l as in its figure 6 (the released code takes at most half of the window).
Trap: n keys are all that a query ever sees: positions are trained up to ℓ, how attention spreads over ℓ keys is not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import RunConfig
from posx.errors import PosxError
from posx.extensions.base import Extension
from posx.models.binding import parse_extension
from posx.models.build import complete_scheme, scheme_of
from posx.models.decoder import model_shape
from posx.schemes.base import Scheme

FOLLOWS_POSITIONS = ("positions", "spectrum", "wavelengths", "slopes")  # what an extension may change under pose


def prepared(config: RunConfig, catalog: Catalog = PACKAGED) -> RunConfig:
    """The config of a fine-tune with its recipe's scheme. Raises PosxError where the recipe does not fit."""
    scheme, name = scheme_of(config, catalog), config.scheme["name"]
    if config.train.recipe == "drop":
        if not rotates_only(scheme):
            raise PosxError(
                f"drop leaves out rotations and nothing else, and does not fit {name}.",
                "It fits rope, partial-rope, p-rope, xpos, and layers of them and of nope.",
            )
        shape = model_shape(config.model, config.base_context)
        config.scheme = complete_scheme("nope", shape, catalog)
    if config.train.recipe == "pose":
        if scheme.capabilities.chooses_positions:
            raise PosxError(
                f"{name} chooses its own positions in training; pose would choose others.", "Leave out --recipe."
            )
        if not any(one.capabilities.uses_positions for one in layers(scheme)):
            raise PosxError(
                f"{name} does not hear where tokens stand, so that positions that skip change nothing.",
                "Leave out --recipe: at its old context this is the same fine-tune.",
            )
        for spec in parse_extension(config.train.extension, catalog):
            if not follows_positions(spec):
                raise PosxError(
                    f"{spec.name} goes by the number of a token, not by its position, which is what pose changes.",
                    "Train with an extension that changes the spectrum, such as pi or yarn.",
                )
    return config


def follows_positions(extension: Extension) -> bool:
    """Whether it acts on positions as pose sets them, or by the scale alone, and not by the number of a token."""
    sharpens = extension.changes == "temperature" and type(extension).temperature is Extension.temperature
    return extension.changes in FOLLOWS_POSITIONS or sharpens


def layers(scheme: Scheme) -> list[Scheme]:
    """The scheme of each layer."""
    return [scheme.at(layer) for layer in range(scheme.shape.n_layers)]


def rotates_only(scheme: Scheme) -> bool:
    """Whether rotations are all that it does, so that without them the model is that of nope, weight by weight."""
    if not scheme.capabilities.rotated or next(scheme.parameters(), None) is not None:
        return False
    return not any(
        one.capabilities.embeds
        or one.capabilities.has_bias
        or one.capabilities.needs_logits
        or one.capabilities.has_own_attention
        for one in layers(scheme)
    )


def skipping(rows: int, n: int, reach: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """l [rows] and the positions [rows, n], int64, of windows under pose; a function of the generator's state."""
    first = torch.randint(1, n, (rows, 1), generator=generator)
    skip = torch.randint(reach - n + 1, (rows, 1), generator=generator)
    place = torch.arange(n)
    return first[:, 0], place + skip * (place >= first)
