"""Tests of ``posx.cli.table``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import torch

from fixtures.commands import (
    refused,
    runs,  # noqa: F401
    text,  # noqa: F401 - a fixture
    there,  # noqa: F401
)
from fixtures.models import posx
from fixtures.stored_records import record, stored
from fixtures.table_cells import flat, protocol_records


def test_the_command_prints_and_writes_every_format(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    protocol_records(runs)
    there = ("--runs-dir", runs)
    assert "breaks" in posx("table", *there).stdout
    assert "Also evaluated: curve, non-overlapping, stream (--protocol NAME, or all)." in posx("table", *there).stderr
    assert len(json.loads(posx("table", "--format", "json", *there).stdout)) == 6
    assert len(json.loads(posx("table", "--format", "json", "--protocol", "all", *there).stdout)) == 14
    side = posx("table", "--protocol", "all", *there)
    assert "-18.1% uses" in side.stdout
    assert "Also evaluated: curve" in side.stderr
    for suffix, sign in ((".md", "| --- |"), (".csv", "run,label"), (".tex", "\\toprule"), (".json", "[\n")):
        result = posx("table", "-o", tmp_path / f"t{suffix}", *there)
        assert result.stdout == ""
        assert "Wrote" in result.stderr
        assert sign in (tmp_path / f"t{suffix}").read_text("utf-8")
    rows = list(csv.DictReader(io.StringIO(posx("table", "rope-seed0", "--format", "csv", *there).stdout)))
    assert {row["label"] for row in rows} == {"rope"}
    # The second table of a pipe is also whole.
    assert "curve, test split" in flat(posx("table", "--protocol", "curve", *there).stdout)


def test_records_without_their_losses_keep_their_numbers(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record(5.0), record(5.5, length=128))
    text = flat(posx("table", "--runs-dir", runs).stdout)
    assert "148.4 · 5.000" in text
    assert "244.7 · 5.500" in text
    assert "+0.500" in text
    assert "No intervals: the losses of single targets are missing" in text


torch.set_num_threads(1)


def test_a_wrong_output_is_a_sentence(runs: Path, there: Path) -> None:
    posx("eval", "rope", "--length", "1x", "--runs-dir", runs)
    Path("file").touch()
    assert "-o" in refused("table", "-o", "file/t.md", "--runs-dir", runs)
    assert "-o" in refused("plot", "-o", "file/p", "--runs-dir", runs)
    Path("folder").mkdir()
    assert "folder" in refused("table", "-o", "folder", "--runs-dir", runs)
    assert "--format" in refused("table", "--format", "rich", "-o", "t.md", "--runs-dir", runs)
    assert sorted(p.name for p in there.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize(
    ("name", "begins"), [("t.md", "Perplexity"), ("t.csv", "schema"), ("t.tex", "%"), ("t.json", "[")]
)
def test_the_name_of_a_table_says_its_format(runs: Path, there: Path, name: str, begins: str) -> None:
    posx("eval", "rope", "--length", "1x", "--runs-dir", runs)
    posx("table", "rope", "-o", name, "--runs-dir", runs)
    content = Path(name).read_text("utf-8")
    assert content.startswith(begins) or (name == "t.csv" and "label,scheme" in content.splitlines()[0])
