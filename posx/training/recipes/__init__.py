"""Fine-tuning recipes: ``train.recipe``, for `posx train --from RUN`. Each is a module that is found by its name."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from posx.config.schema import RECIPES
from posx.errors import PosxError, unknown
from posx.training.recipes.base import Recipe


@cache
def find_recipe(name: str) -> Recipe:
    """The recipe in the module of this name. Raises PosxError."""
    if name not in RECIPES:
        raise PosxError(f"train.recipe={name} is not a valid choice.", unknown("train.recipe", name, RECIPES).hint)
    if name == Recipe.name:
        return Recipe()
    module = import_module(f"{__name__}.{name}")
    (found,) = (one for one in vars(module).values() if isinstance(one, type) and getattr(one, "name", "") == name)
    return found()
