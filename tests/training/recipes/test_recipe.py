"""Tests of ``posx.training.recipes``: a recipe is found by its name, and says what differs."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest

import posx
from posx.config.schema import RECIPES
from posx.errors import PosxError
from posx.models.binding import parse_extension
from posx.training import recipes
from posx.training.recipes import find_recipe


def test_every_choice_has_a_file_and_every_file_is_a_choice() -> None:
    files = {module.name for module in pkgutil.iter_modules(recipes.__path__)} - {"base"}
    assert files | {"none"} == set(RECIPES)
    assert {find_recipe(name).name for name in RECIPES} == set(RECIPES)


def test_an_unknown_recipe_is_a_sentence() -> None:
    with pytest.raises(PosxError, match=r"train\.recipe=poze") as error:
        find_recipe("poze")
    assert "Did you mean pose" in str(error.value)


def test_no_module_compares_with_the_name_of_a_recipe() -> None:
    """But results, which say in words what records hold, and the schema, which lists the choices."""
    root = Path(posx.__file__).parent
    for folder in ("training", "sweeps", "evaluation", "cli", "bench"):
        for path in (root / folder).rglob("*.py"):
            if "recipes" not in path.parts:
                text = path.read_text("utf-8")
                assert '== "drop"' not in text, path
                assert '"pose"' not in text, path


def test_what_a_sweep_trains_with_each() -> None:
    texts = ["none", "pi", "window"]
    assert find_recipe("none").usable(texts, parse_extension) == texts
    assert find_recipe("pose").usable(texts, parse_extension) == ["none", "pi"]
    assert find_recipe("drop").usable(["pi"], parse_extension) == ["none"]


def test_where_each_takes_a_model() -> None:
    assert find_recipe("none").settings(64, 256) == {"train.context": 256}
    assert find_recipe("pose").settings(64, 256) == {"train.context": 64, "train.reach": 256}
    assert find_recipe("drop").settings(64, 256) == {"train.context": 64}
