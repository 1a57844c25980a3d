"""Tests of ``posx.cli.evaluate``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fixtures.commands import (
    refused,
    runs,  # noqa: F401
    text,  # noqa: F401 - a fixture
    there,  # noqa: F401
    tree,
)
from fixtures.corpora import child_environment
from fixtures.models import posx

torch.set_num_threads(1)


def test_the_default_lengths_are_1x_2x_and_4x(runs: Path) -> None:
    records = json.loads(posx("eval", "rope", "--json", "--runs-dir", runs).stdout)
    assert [r["length"] for r in records] == [8, 16, 32]
    assert {r["protocol"] for r in records} == {"fixed-targets"}


def test_the_control_comes_unasked(runs: Path) -> None:
    records = json.loads(
        posx("eval", "rope", "--json", "--length", "24", "--extension", "pi", "--runs-dir", runs).stdout
    )
    assert [(r["extension"], r["length"]) for r in records] == [("none", 8), ("pi", 24)]
    assert records[0]["targets_sha256"] == records[1]["targets_sha256"]
    assert records[1]["extension_params"] == {"pi": {"s": 3.0}}


def test_json_is_all_that_stands_on_standard_output(runs: Path) -> None:
    """A program reads standard output; progress and hints go elsewhere. A real process, real pipes."""
    done = subprocess.run(
        [sys.executable, "-m", "posx", "eval", "--length", "2x", "--json", "--runs-dir", str(runs)],
        capture_output=True,
        text=True,
        timeout=60,
        env=child_environment(),
        check=True,
    )
    printed = json.loads(done.stdout)
    stored = [json.loads(p.read_text("utf-8")) for p in (runs / "rope" / "eval").glob("*.json")]
    assert all(record in stored for record in printed)
    assert [r["length"] for r in printed] == [8, 16]
    assert "Using the newest run that supports this, rope." in done.stderr
    assert "Next:" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_an_equal_evaluation_is_kept(runs: Path) -> None:
    first = posx("eval", "rope", "--json", "--length", "3x", "--runs-dir", runs).stdout
    before = tree(runs)
    assert posx("eval", "rope", "--json", "--length", "3x", "--runs-dir", runs).stdout == first
    assert tree(runs) == before


def test_runs_are_named_by_name_or_path(runs: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["rope", "--runs-dir", runs], [runs / "rope"], [f"{runs / 'rope'}/"]):
        records = json.loads(posx("eval", *arguments, "--length", "1x", "--json").stdout)
        assert {r["run"] for r in records} == {"rope"}
    monkeypatch.chdir(runs / "rope")
    assert {r["run"] for r in json.loads(posx("eval", ".", "--length", "1x", "--json").stdout)} == {"rope"}


def test_a_path_with_an_equals_sign_is_a_run_if_it_exists(there: Path, runs: Path) -> None:
    (there / "a=b").symlink_to(runs / "rope")
    records = json.loads(posx("eval", "a=b", "eval.max_targets=128", "--length", "1x", "--json").stdout)
    assert [r["n_targets"] for r in records] == [128]


def test_several_runs_are_evaluated_and_one_that_cannot_stops_no_other(runs: Path) -> None:
    result = posx("eval", "learned", "rope", "--length", "2x", "--json", "--runs-dir", runs)
    found = {(r["run"], r["length"]): r["status"] for r in json.loads(result.stdout)}
    assert found == {("learned", 8): "ok", ("learned", 16): "unsupported", ("rope", 8): "ok", ("rope", 16): "ok"}
    assert "learned positions end at 8" in result.stderr


def test_what_a_scheme_cannot_do_is_a_dash_and_no_failure(runs: Path) -> None:
    result = posx("eval", "learned", "--length", "1x", "--length", "2x", "--json", "--runs-dir", runs)
    short, long = json.loads(result.stdout)
    assert (short["status"], long["status"], long["nats"]) == ("ok", "unsupported", None)
    assert "interpolate" in long["reason"]
    table = posx("table", "learned", "--format", "md", "--runs-dir", runs).stdout
    assert "– [1]" in table
    assert "[1] unsupported: learned positions end at 8" in table


def test_where_it_is_all_that_was_asked_the_way_out_is_named(runs: Path) -> None:
    message = refused("eval", "learned", "--length", "2x", "--runs-dir", runs)
    assert "learned positions end at 8" in message
    assert "--extension interpolate" in message
    records = json.loads(
        posx("eval", "learned", "--length", "2x", "--extension", "interpolate", "--json", "--runs-dir", runs).stdout
    )
    assert [(r["length"], r["status"]) for r in records] == [(8, "ok"), (16, "ok")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--length", "abc"], "is not a valid length"),
        (["--length", "0"], "at least 1"),
        (["--length", "0.5x"], "at least 1"),
        (["--length", "1.3x"], "Give tokens: 10 or 11"),
        (["--length", "-3"], "-3"),
        (["--length", "3000"], "It has enough targets with a context of"),
        (["--length", "9999999999999999999999"], "longer than any document"),
        (["--extension", "pii"], "Did you mean pi"),
        (["--extension", "interpolate"], "does not fit rope"),
        (["--extension", "pi+ntk"], "not both"),
        (["--extension", "pi(s=0.5)"], "at least 1"),
        (["--extension", "pi(s=nan)"], "nan"),
        (["--extension", "pi(s=inf)"], "inf"),
        (["--extension", "pi(s=4"], "is not an extension"),
        (["--protocol", "streem"], "Did you mean stream"),
        (["--length", "2x", "eval.lengths=[4x]"], "contradict"),
        (["--protocol", "stream", "eval.protocol=fixed-targets"], "contradict"),
        (["eval.strid=2"], "Did you mean eval.stride"),
        (["eval.stride=9"], "eval.stride=9"),
        (["eval.stride=x"], "a whole number"),
        (["eval.target_context=4"], "eval.target_context=4"),
        (["eval.max_targets=0"], "at least 1"),
        (["eval.split=tset"], "Did you mean test"),
        (["eval.seed=99999999999999999999"], "eval.seed"),
        (["eval.device=cuda"], "device=c"),
        (["train.steps=4"], "belongs to training"),
        (["roop"], "Did you mean rope"),
        (["notarun"], "is not a posx run"),
        (["--config-dir", "nowhere"], "not a directory"),
    ],
)
def test_a_mistake_in_evaluation_leaves_nothing(runs: Path, there: Path, arguments: list[str], says: str) -> None:
    if "eval.device=cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    (runs / "notarun").mkdir(exist_ok=True)
    before = tree(runs)
    name = [] if arguments[0] in ("roop", "notarun") else ["rope"]
    assert says in refused("eval", *name, *arguments, "--runs-dir", runs)
    new = tree(runs).keys() - before.keys()
    assert [path for path in new if path.endswith(".json")] == []
    assert list(there.iterdir()) == []


def test_a_run_whose_config_was_damaged_is_a_sentence(runs: Path, there: Path) -> None:
    Path("runs/bad").mkdir(parents=True)
    Path("runs/bad/config.yaml").write_text("model: [")
    assert "bad/config.yaml" in refused("eval", "bad")


def test_the_hint_after_an_evaluation_works_as_it_stands(runs: Path, there: Path) -> None:
    """Runs that lie elsewhere: each command of the hint must find them."""
    hint = posx("eval", "rope", "--length", "1x", "--runs-dir", runs).stderr.partition("Next: ")[2].splitlines()[0]
    for part in hint.split(", "):
        arguments = part.split()
        assert arguments[0] == "posx"
        posx(*arguments[1:])
