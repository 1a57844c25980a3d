"""Tests of ``posx.cli.report``."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fixtures.models import posx
from fixtures.reported import (
    records,  # noqa: F401
    runs,  # noqa: F401
    tables_of,
    tree_of,
)
from posx.results.records import Record, read_records, write_record

torch.set_num_threads(1)


def test_of_named_runs_alone(runs: Path, tmp_path: Path, records: list[Record]) -> None:
    posx("report", "rope-1", "--runs-dir", runs, "-o", tmp_path / "r.html")
    cells = tables_of(tree_of((tmp_path / "r.html").read_text("utf-8")))[-1]
    assert {row[0].text for row in cells.rows} == {r.key for r in records if r.run == "rope-1"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["-o", "."], "is a directory", id="directory"),
        pytest.param(["-o", "{file}/r.html"], "cannot be written", id="below a file"),
        pytest.param(["rope-2"], "Did you mean", id="unknown run"),
        pytest.param(["--runs-dir", "{empty}"], "no evaluations", id="no runs"),
        pytest.param(["--runs-dir", "{file}"], "no evaluations", id="a file for runs"),
    ],
)
def test_bad_input_is_a_sentence(
    runs: Path, tmp_path: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    own = [a.format(file=tmp_path / "file", empty=tmp_path / "empty") for a in arguments]
    where = [] if "--runs-dir" in own else ["--runs-dir", runs]
    result = posx("report", *own, *where, code=2)
    assert result.stdout == ""
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["empty", "file"]


def test_the_old_page_survives_a_failure(runs: Path, tmp_path: Path) -> None:
    one = read_records(runs, ["rope-1"])[0]
    own = tmp_path / "runs"
    shutil.copytree(runs / "rope-1", own / "rope-1")
    (own / "report.html").write_text("before")
    write_record(own / "rope-1" / "eval" / "broken.json", replace(one, schema=99))
    posx("report", "--runs-dir", own, code=2)
    assert (own / "report.html").read_text() == "before"
