"""pose: windows of n tokens, the context of the fine-tune, with one skip in their positions.

So all distances up to ``train.reach`` = ℓ occur.

    tokens 0 .. l − 1 have their own positions, the others are shifted by u     l in 1 .. n − 1,  u in 0 .. ℓ − n
    the text of tokens l .. n − 1 begins v tokens further on                    v in 0 .. the rest of the document

l, u and v are drawn uniformly for each window. An extension is applied in training at the scale of ℓ.

Source: Zhu et al. 2023, arXiv 2309.10400, section 3.2 with N = 2, u_0 = v_0 = 0 and v drawn, as it does by default;
l as in its figure 6 (the released code uses at most half of the window).
Pitfall: a query never attends to more than n keys. Positions are trained up to ℓ, but attention over ℓ keys is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from posx.config.catalog import Catalog
from posx.config.schema import RunConfig, TrainConfig
from posx.errors import PosxError
from posx.extensions.base import Extension
from posx.schemes.base import Scheme
from posx.training.recipes.base import Drawn, Recipe

FOLLOWS_POSITIONS = ("positions", "spectrum", "wavelengths", "slopes")  # what an extension may change with pose


class Pose(Recipe):
    """Skipped positions up to ``train.reach``."""

    name = "pose"
    uses_reach = True

    def prepare(self, config: RunConfig, scheme: Scheme, extensions: list[Extension], catalog: Catalog) -> RunConfig:
        name = config.scheme["name"]
        if scheme.capabilities.chooses_positions:
            raise PosxError(
                f"{name} selects its own positions in training, which conflicts with pose.", "Leave out --recipe."
            )
        if not any(scheme.at(layer).capabilities.uses_positions for layer in range(scheme.shape.n_layers)):
            raise PosxError(
                f"{name} does not use positions, so skipped positions change nothing.",
                "Leave out --recipe: the fine-tune at the old context is the same.",
            )
        for one in extensions:
            if not follows_positions(one):
                raise PosxError(
                    f"{one.name} depends on the index of a token, not on its position, which pose changes.",
                    "Train with an extension that changes the spectrum, such as pi or yarn.",
                )
        return config

    def draw(self, scheme: Scheme, train: TrainConfig, rows: int, generator: torch.Generator) -> Drawn:
        first, positions = skipping(rows, train.context, train.reached, generator)
        return Drawn(positions, first.numpy())

    def label(self, first: str, tuning: str, train: TrainConfig) -> str:
        return f"{first} + {tuning}, pose to {train.reach}"

    def settings(self, base_context: int, context: Any) -> dict[str, Any]:
        return {"train.context": base_context, "train.reach": context}

    def usable(self, extensions: list[str], parse: Callable[[str], list[Extension]]) -> list[str]:
        return [text for text in extensions if all(map(follows_positions, parse(text)))]


def follows_positions(extension: Extension) -> bool:
    """Whether the extension depends on positions or the scale only, not on the index of a token."""
    sharpens = extension.changes == "temperature" and "temperature" not in extension.overrides
    return extension.changes in FOLLOWS_POSITIONS or sharpens


def skipping(rows: int, n: int, reach: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """l [rows] and the positions [rows, n], int64, of windows with pose; a function of the generator's state."""
    first = torch.randint(1, n, (rows, 1), generator=generator)
    skip = torch.randint(reach - n + 1, (rows, 1), generator=generator)
    place = torch.arange(n)
    return first[:, 0], place + skip * (place >= first)
