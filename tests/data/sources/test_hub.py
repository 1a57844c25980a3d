"""Tests of ``posx.data.sources.hub``."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from fixtures.source_files import write_parquet
from posx.config.schema import DataConfig
from posx.data.sources import documents
from posx.data.sources.hub import join_articles
from posx.errors import PosxError


def test_first_level_headings_begin_documents() -> None:
    lines = [
        "",
        " = Valkyria = \n",
        "",
        " Text = with = signs .\n",
        " = = Gameplay = = \n",
        " More .\n",
        " = = = Deep = = = \n",
        " = Tower Building = \n",
        " = \n",
        "= Not indented =\n",
        " Last .\n",
    ]
    assert list(join_articles(iter(lines))) == ["".join(lines[:1]), "".join(lines[1:7]), "".join(lines[7:])]


def test_lines_without_headings_are_one_document() -> None:
    assert list(join_articles(iter(["a\n", " = = Sub = = \n", "b\n"]))) == ["a\n = = Sub = = \nb\n"]
    assert list(join_articles(iter([]))) == []


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_hub_source_reads_a_local_directory(tmp_path: Path, kind: str) -> None:
    lines = [" = One = \n", " a b\n", " = = Sub = = \n", "", " = Two = \n", " c\n"]
    folder = tmp_path / "set"
    folder.mkdir()
    if kind == "parquet":
        write_parquet(folder / "train.parquet", text=lines)
    else:
        (folder / "train.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in lines))
    data = DataConfig(name="local", source="hub", path=str(folder), join_articles=True)
    assert list(documents(data)) == [" = One = \n a b\n = = Sub = = \n", " = Two = \n c\n"]


def test_the_message_for_a_missing_field_lists_fields_with_text(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", content=["a"], title=["t"])
    with pytest.raises(PosxError, match="content, title"):
        list(documents(DataConfig(name="local", source="hub", path=str(tmp_path))))


@pytest.mark.parametrize("variable, value", [("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:9")])
def test_an_unreachable_hub_fails_quickly(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    began = time.monotonic()
    with pytest.raises(PosxError) as caught:
        list(documents(DataConfig(name="wikitext103", source="hub", path="Salesforce/wikitext", subset="a")))
    assert time.monotonic() - began < 5
    for part in ("data=wikitext103", "data=sotu", "data=text"):
        assert part in str(caught.value)
