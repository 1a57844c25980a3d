"""Tests of ``posx.config.catalog``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fixtures.composed import refused
from posx.config.catalog import PACKAGED, Catalog
from posx.models.build import compose_run, make_scheme
from posx.models.decoder import model_shape


@pytest.mark.parametrize(
    ("override", "guess"),
    [("scheme=rop", "rope"), ("model=tinny", "tiny"), ("data=wikitext", "wikitext103"), ("optim=adam", "adamw")],
)
def test_the_message_for_an_unknown_option_suggests_similar_names(override: str, guess: str) -> None:
    error = refused(override)
    assert override.partition("=")[2] in error.message
    assert f"Did you mean {guess}" in error.hint


SCHEME = """
from dataclasses import dataclass
from posx.schemes.alibi import Alibi
from posx.schemes.base import Scheme

@dataclass
class Config:
    strength: float = 2.0

class Strange(Scheme):
    Config = Config
    formula = "strange"

class NotOne:
    pass

open(__file__ + ".was-imported", "w").close()
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's package ``strangepos`` on sys.path; importing it creates a file next to it."""
    (tmp_path / "site" / "strangepos").mkdir(parents=True)
    (tmp_path / "site" / "strangepos" / "__init__.py").write_text(SCHEME)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "strangepos", raising=False)
    return tmp_path / "site" / "strangepos"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A --config-dir with a scheme of posx under another name and a scheme of the package."""
    folder = tmp_path / "own"
    (folder / "scheme").mkdir(parents=True)
    (folder / "scheme" / "rope-500k.yaml").write_text("_target_: posx.schemes.rope.Rope\nbase: 500000\n")
    (folder / "scheme" / "strange.yaml").write_text("_target_: strangepos.Strange\nstrength: 3\n")
    return folder


def test_a_config_dir_adds_options(own: Path) -> None:
    assert compose_run(["scheme=rope-500k"], Catalog(own)).scheme == {
        "name": "rope-500k",
        "_target_": "posx.schemes.rope.Rope",
        "base": 500000.0,
        "fraction": 1.0,
    }
    assert compose_run(["scheme=rope-500k", "scheme.base=99"], Catalog(own)).scheme["base"] == 99
    assert "rope-500k" not in PACKAGED.options("scheme")
    assert "rope-500k" not in refused("scheme=rope-500").hint
    assert "Did you mean rope-500k" in refused("scheme=rope-500", config_dir=own).hint


def test_a_config_dir_may_have_special_characters_in_its_path(own: Path, tmp_path: Path) -> None:
    other = own.rename(tmp_path / "my configs (v=2), 100%")
    assert compose_run(["scheme=rope-500k"], Catalog(other)).scheme["base"] == 500000


def test_a_clash_of_names_is_an_error(own: Path) -> None:
    (own / "scheme" / "alibi.yaml").write_text("_target_: posx.schemes.rope.Rope\n")
    assert "alibi.yaml" in refused("scheme=rope", config_dir=own).message


def test_a_missing_config_dir_is_an_error(tmp_path: Path) -> None:
    assert "not a directory" in refused(config_dir=tmp_path / "nowhere").message
    (tmp_path / "file").touch()
    assert "not a directory" in refused(config_dir=tmp_path / "file").message


def test_an_invalid_yaml_in_a_config_dir_is_reported(own: Path) -> None:
    (own / "scheme" / "broken.yaml").write_text("_target_: [posx\n")
    assert "broken" in str(refused("scheme=broken", config_dir=own))
    (own / "scheme" / "empty.yaml").write_text("")
    assert "_target_" in str(refused("scheme=empty", config_dir=own))


def test_foreign_code_is_not_imported_without_trust(own: Path, package: Path) -> None:
    error = refused("scheme=strange", config_dir=own)
    assert "--trust" in error.hint
    assert [p.name for p in package.iterdir()] == ["__init__.py"]


def test_foreign_code_works_with_trust(own: Path, package: Path) -> None:
    config = compose_run(["scheme=strange"], Catalog(own, trust=True))
    assert config.scheme == {"name": "strange", "_target_": "strangepos.Strange", "strength": 3.0}
    made = make_scheme(config.scheme, model_shape(config.model, 64), Catalog(own, trust=True))
    assert (type(made).__name__, made.config.strength) == ("Strange", 3.0)
    assert (package / "__init__.py.was-imported").exists()
    assert "scheme.strength" in refused("scheme=strange", "scheme.strenght=1", config_dir=own, trust=True).hint


@pytest.mark.parametrize("prefix", ["posxtra", "posx_evil"])
def test_a_name_that_only_begins_like_posx_is_foreign(prefix: str) -> None:
    assert "--trust" in refused(f"scheme._target_={prefix}.Rope").hint


@pytest.mark.parametrize(
    "target",
    [
        "posx.schemes.rope.Nope",
        "posx.nowhere.Rope",
        "posx.extensions.pi.PI",
        "posx.schemes.rope.RopeConfig",
        "posx.compose.yaml",
        "Rope",
        "5",
        "null",
    ],
)
def test_a_target_that_is_not_a_scheme_of_posx_is_refused(target: str) -> None:
    refused(f"scheme._target_={target}")


@pytest.mark.parametrize(
    "target", ["strangepos.NotOne", "strangepos.Missing", "strangepos.deeper.Strange", "nowhere.X"]
)
def test_a_trusted_target_must_still_be_a_scheme(target: str, package: Path) -> None:
    refused(f"scheme._target_={target}", trust=True)
