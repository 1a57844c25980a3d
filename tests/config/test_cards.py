"""Every config of a scheme or an extension contains its card, which lists print without importing the class."""

from __future__ import annotations

from pathlib import Path

import pytest

from posx.config.catalog import CARD, PACKAGED, Catalog
from posx.models.build import compose_run
from posx.models.classes import formula_of, known_extensions, known_schemes
from posx.schemes.base import Scheme


@pytest.mark.parametrize("name", sorted(PACKAGED.options("scheme")))
def test_every_scheme_has_a_complete_card(name: str) -> None:
    card = PACKAGED.card("scheme", name)
    assert set(card) == {"formula", "cost", "paper"}
    assert all(text.strip() and "\n" not in text for text in card.values())
    assert any(year in card["paper"] for year in map(str, range(2017, 2027)))
    assert not set(CARD) & set(compose_run([f"scheme={name}"]).scheme)


@pytest.mark.parametrize("name", sorted(PACKAGED.options("extension")))
def test_every_extension_has_a_complete_card(name: str) -> None:
    card = PACKAGED.card("extension", name)
    assert set(card) == {"formula", "changes", "paper"}
    assert all(text.strip() and "\n" not in text for text in card.values())
    assert card["changes"] == known_extensions()[name].changes


def test_packaged_classes_define_no_formula() -> None:
    classes = [cls for cls, _ in known_schemes().values()] + list(known_extensions().values())
    assert [cls.__name__ for cls in classes if cls.formula] == []


def test_the_card_takes_precedence_over_the_class(tmp_path: Path) -> None:
    class Own(Scheme):
        formula = "of the class"

    (tmp_path / "scheme").mkdir()
    (tmp_path / "scheme" / "with.yaml").write_text("_target_: own.Own\nformula: of the card\n")
    (tmp_path / "scheme" / "without.yaml").write_text("_target_: own.Own\n")
    catalog = Catalog(tmp_path)
    assert formula_of("scheme", "with", Own, catalog) == "of the card"
    assert formula_of("scheme", "without", Own, catalog) == "of the class"
    assert formula_of("scheme", "of a folder that is gone", Own) == "of the class"
    assert formula_of("scheme", "rope", Own) == PACKAGED.read("scheme", "rope")["formula"]
