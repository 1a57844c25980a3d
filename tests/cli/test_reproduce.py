"""Tests of ``posx.cli.reproduce``."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.corpora import TINY, sentence, write_jsonl
from fixtures.models import posx
from fixtures.reproduced_runs import (
    cell,
    own,  # noqa: F401
    printed,
    refused,
    runs,  # noqa: F401
    text,  # noqa: F401
    tree,
)
from posx.config.catalog import packaged_configs
from posx.results.records import read_record, write_record

torch.set_num_threads(1)


def test_it_evaluates_again_and_leaves_everything_as_it_was(runs: Path) -> None:
    one = cell(runs, "rope", extension="none", length=40)
    before = tree(runs)
    result = posx("reproduce", one.key, "--runs-dir", runs)
    *lines, last = result.stdout.splitlines()
    assert lines == printed(runs, one)
    assert last.startswith(f"The same: {one.nats_per_token:.6f} nats/token")
    assert "Next: posx table" in result.stderr
    assert tree(runs) == before


def test_a_dry_run_runs_nothing(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: Any, **more: Any) -> None:
        raise AssertionError("a dry run evaluated")

    monkeypatch.setattr("posx.evaluation.evaluate.evaluate_all", never)
    monkeypatch.setattr("posx.training.retrain.train_again", never)
    one = cell(runs, "tuned", extension="trained", length=48)
    before = tree(runs)
    lines = printed(runs, one, "--from-scratch")
    assert [shlex.split(line)[1] for line in lines] == ["train", "train", "eval"]
    assert tree(runs) == before


def test_a_beginning_of_the_key_is_enough(runs: Path) -> None:
    one = cell(runs, "learned", extension="none", length=16)
    assert printed(runs, one.key[:8]) == printed(runs, one)


def test_a_path_names_a_cell(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, and relative from every folder in which it is a name."""
    one = cell(runs, "tuned", extension="trained", length=48)
    assert one.path is not None
    assert printed(runs, str(one.path)) == printed(runs, one)
    name = one.path.name
    for folder, where in (
        (runs.parent, f"{runs.name}/tuned/eval/{name}"),
        (runs, f"tuned/eval/{name}"),
        (runs / "tuned", f"eval/{name}"),
        (runs / "tuned" / "eval", name),
    ):
        monkeypatch.chdir(folder)
        assert printed(runs, where) == printed(runs, one), f"{where} in {folder}"


def test_a_path_is_reproduced_wherever_runs_are(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = cell(runs, "learned", extension="none", length=16)
    result = posx("reproduce", one.path)
    assert "The same: " in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scratch", [[], ["--from-scratch"]], ids=["same weights", "from scratch"])
def test_another_number_is_said_and_fails(own: Path, scratch: list[str]) -> None:
    one = cell(own, "learned", extension="none", length=16)
    assert one.path is not None
    assert one.nats is not None
    write_record(one.path, replace(one, nats=one.nats + 0.01 * one.n_targets))
    said = refused("reproduce", one.key, *scratch, "--runs-dir", own, code=1)
    assert "The number differs" in said
    assert f"{read_record(one.path).nats_per_token} nats/token in the record" in said


def test_a_number_within_rounding_is_the_same(own: Path) -> None:
    one = cell(own, "learned", extension="none", length=16)
    assert one.path is not None
    assert one.nats is not None
    write_record(one.path, replace(one, nats=one.nats + 2e-5 * one.n_targets))
    assert "The same: " in posx("reproduce", one.key, "--runs-dir", own).stdout


def test_other_weights_other_versions_and_other_targets_are_named(own: Path) -> None:
    one = cell(own, "learned", extension="none", length=16)
    assert one.path is not None
    assert one.nats is not None
    odd = replace(one, nats=one.nats * 2, versions={**one.versions, "torch": "0.1"}, device="an abacus")
    write_record(one.path, odd)
    said = refused("reproduce", one.key, "--runs-dir", own, code=1)
    assert f"torch 0.1 → {one.versions['torch']}" in said
    assert f"an abacus → {one.device}" in said
    write_record(one.path, replace(one, targets_sha256="00" * 32))
    assert "different targets" in refused("reproduce", one.key, "--runs-dir", own, code=1)


def test_no_number_is_reproduced_with_its_reason(own: Path) -> None:
    one = cell(own, "learned", extension="none", length=40)
    assert one.status == "unsupported"
    assert one.path is not None
    result = posx("reproduce", one.key, "--runs-dir", own)
    assert result.stdout.splitlines()[-1].startswith("The same: no number, for the same reason")
    write_record(one.path, replace(one, reason="tired"))
    assert "tired" in refused("reproduce", one.key, "--runs-dir", own, code=1)
    write_record(one.path, replace(one, status="ok", reason="", nats=4.0 * one.n_targets))
    assert "to unsupported" in refused("reproduce", one.key, "--runs-dir", own, code=1)


def test_another_text_is_a_sentence(own: Path, tmp_path: Path) -> None:
    """The text under data.path has changed since: no number is compared with it."""
    other = write_jsonl(tmp_path / "other.jsonl", [sentence(120, n) for n in range(30, 54)])
    config = own / "learned" / "config.yaml"
    changed = re.sub(r"(?m)^(\s+path:) .*(?:\n\s{4,}.*)*$", rf"\1 {other}", config.read_text("utf-8"), count=1)
    config.write_text(changed, "utf-8")
    one = cell(own, "learned", extension="none", length=16)
    said = refused("reproduce", one.key, "--runs-dir", own)
    assert "text" in said


def test_a_scheme_of_ones_own(text: Path, tmp_path: Path) -> None:
    """--config-dir reaches the printed commands too."""
    (tmp_path / "mine" / "scheme").mkdir(parents=True)
    source = packaged_configs() / "scheme" / "alibi.yaml"
    (tmp_path / "mine" / "scheme" / "my-alibi.yaml").write_text(source.read_text("utf-8"), "utf-8")
    at = ["--runs-dir", tmp_path / "runs", "--config-dir", tmp_path / "mine"]
    posx("train", "data=text", f"data.path={text}", *TINY, "train.steps=1", "scheme=my-alibi", "--name", "own", *at)
    posx("eval", "own", "--length", 16, "eval.target_context=90", *at)
    one = cell(tmp_path / "runs", "own", length=16)
    result = posx("reproduce", one.key, *at)
    assert "The same: " in result.stdout
    lines = [line for line in result.stdout.splitlines() if line.startswith("posx train")]
    assert "--config-dir" in lines[0], "the printed line does not find the scheme"


def test_two_cells_that_begin_alike(own: Path) -> None:
    one = cell(own, "learned", extension="none", length=16)
    assert one.path is not None
    twin = one.path.with_name(f"{one.key[:6]}{'0' * 10}.json")
    write_record(twin, replace(one, length=8, path=twin))
    said = refused("reproduce", one.key[:6], "--runs-dir", own)
    assert "2 cells begin with" in said
    assert one.key in said
    assert twin.stem in said
    assert printed(own, one)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["ffffffffffffffff0"], "There is no cell", id="unknown"),
        pytest.param([""], "There is no cell", id="empty"),
        pytest.param(["ab"], "There is no cell", id="too short"),
        pytest.param(["rope"], "There is no cell 'rope'", id="a run"),
        pytest.param(["nowhere.json"], "There is no cell", id="no such file"),
        pytest.param(["{runs}/rope/meta.json"], "is not a record", id="another file"),
        pytest.param(["{runs}/rope"], "There is no cell", id="a folder"),
        pytest.param(["abcdef", "--runs-dir", "{empty}"], "no evaluations", id="no runs"),
    ],
)
def test_what_is_no_cell_is_a_sentence(runs: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    given = [a.format(runs=runs, empty=tmp_path) for a in arguments]
    where = [] if "--runs-dir" in given else ["--runs-dir", runs]
    result = posx("reproduce", *given, *where, code=2)
    assert said in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_a_record_without_its_run_is_a_sentence(runs: Path, tmp_path: Path) -> None:
    one = cell(runs, "learned", extension="none", length=16)
    assert one.path is not None
    lone = tmp_path / "a" / "eval" / one.path.name
    lone.parent.mkdir(parents=True)
    shutil.copy(one.path, lone)
    assert "config.yaml" in refused("reproduce", lone, "--runs-dir", runs)
    shutil.copytree(runs / "tuned", tmp_path / "tuned")
    gone = cell(tmp_path, "tuned", extension="trained", length=48)
    said = refused("reproduce", gone.path, "--runs-dir", tmp_path)
    assert "rope, which is missing" in said
