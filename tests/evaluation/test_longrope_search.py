"""Tests of ``posx.evaluation.longrope_search``."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fixtures.corpora import python
from fixtures.models import posx
from fixtures.searches import (
    ASKED,
    EVALUATIONS,
    TARGETS,
    own,  # noqa: F401
    runs,  # noqa: F401
    searched,  # noqa: F401
)
from posx.evaluation.longrope_search import halves
from posx.evaluation.protocols.fixed_targets import TargetSet

STARTS = ["pi", "ntk", "ntk(s=6)", "ntk(s=8)", "ntk(s=16)", "by-parts", "by-parts(s=8)", "yarn", "yarn(s=8)"]


def evaluated(runs: Path, run: str, *arguments: object) -> list[dict[str, Any]]:
    """The records of posx eval at 64 tokens."""
    rows = json.loads(posx("eval", run, *arguments, "--json", "--runs-dir", runs).stdout)
    return [row for row in rows if row["length"] == 64]


def test_the_numbers_are_those_of_posx_eval(runs: Path, searched: Path) -> None:
    """Targets of the search and those held out are together what posx eval draws: twice as many, on validation."""
    found = yaml.safe_load(searched.read_text())
    names = ["none", "pi", "ntk", "ntk(s=8)", "yarn", f"longrope(factors={searched})"]
    flags = [part for name in names for part in ("--extension", name)]
    twice = ["eval.target_context=90", "eval.max_targets=128", "eval.split=validation"]
    rows = evaluated(runs, "rope", "--length", 64, *flags, *twice)
    first, second = found["targets"], found["held_out_targets"]
    assert (first, second) == (64, 64)
    for row, name in zip(rows, [*names[:-1], "longrope"], strict=True):
        assert row["n_targets"] == first + second
        nats = (found["nats_per_token"][name] * first + found["held_out_nats_per_token"][name] * second) / (
            first + second
        )
        # Starts are factors of four digits: up to 5e-5 of a frequency.
        assert nats == pytest.approx(row["nats"] / row["n_targets"], abs=5e-4 if name != "longrope" else 1e-6)


def test_the_best_is_no_worse_than_any_start(searched: Path) -> None:
    found = yaml.safe_load(searched.read_text())
    nats = found["nats_per_token"]
    assert list(nats) == list(found["held_out_nats_per_token"]) == ["none", *STARTS, "longrope"]
    assert nats["longrope"] <= min(nats[name] for name in STARTS)
    assert found["factors"] == sorted(found["factors"])
    assert len(found["factors"]) == 8
    assert found["factors"][0] >= 1
    assert found["n"] in (0, 1, 2, 4, 8)
    assert (found["length"], found["train_context"], found["run"], found["split"]) == (64, 16, "rope", "validation")
    assert (found["seed"], found["evaluations"], found["interrupted"]) == (0, EVALUATIONS, False)


def test_a_seed_finds_the_same_again(own: Path, tmp_path: Path) -> None:
    one, two, other = (tmp_path / f"{name}.yaml" for name in ("one", "two", "other"))
    for path, more in ((one, []), (two, []), (other, ["eval.seed=1"])):
        posx("search", "longrope", "rope", *ASKED, *more, "-o", path, "--runs-dir", own)
    assert one.read_text() == two.read_text() == (own / "rope" / "longrope-64.yaml").read_text()
    first, second = (yaml.safe_load(path.read_text()) for path in (one, other))
    assert first["targets_sha256"] != second["targets_sha256"]
    assert second["seed"] == 1


def test_few_targets_hold_nothing_out(own: Path) -> None:
    """All that there are are searched with, and the page says why there is no other column."""
    most = ["--length", "64", "--evaluations", 9, "eval.target_context=200", "eval.stride=16", "eval.max_targets=4096"]
    result = posx("search", "longrope", "rope", *most, "--runs-dir", own)
    found = yaml.safe_load((own / "rope" / "longrope-64.yaml").read_text())
    if found["held_out_targets"] == 0:
        assert "there are too few targets for two sets" in result.stdout
        assert set(found["held_out_nats_per_token"].values()) == {None}
    assert found["evaluations"] == 9


def test_a_record_holds_the_factors_and_another_file_is_another_record(own: Path) -> None:
    path = own / "rope" / "longrope-64.yaml"
    where = ["--length", 64, *TARGETS]
    before = set((own / "rope" / "eval").glob("*.json"))
    (first,) = evaluated(own, "rope", *where, "--extension", f"longrope(factors={path})")
    found = yaml.safe_load(path.read_text())
    assert first["extension_params"]["longrope"]["factors"] == found["factors"]
    assert first["extension_params"]["longrope"]["n"] == found["n"]
    made = set((own / "rope" / "eval").glob("*.json")) - before
    (again,) = evaluated(own, "rope", *where, "--extension", first["extension"])
    assert again == first
    assert set((own / "rope" / "eval").glob("*.json")) - before == made
    path.write_text(yaml.safe_dump({**found, "factors": [*found["factors"][:-1], found["factors"][-1] + 1]}))
    (other,) = evaluated(own, "rope", *where, "--extension", f"longrope(factors={path})")
    assert other["extension"] != first["extension"]
    assert other["nats"] != first["nats"]
    name = f"rope:{first['extension']}"
    assert "A − B" in posx("compare", name, "rope:" + other["extension"], "--runs-dir", own).stdout


def test_a_fine_tune_outlives_the_file(own: Path) -> None:
    path = own / "rope" / "longrope-64.yaml"
    found = yaml.safe_load(path.read_text())
    asked = ["--extension", f"longrope(factors={path})", "train.context=4x", "train.steps=3"]
    posx("train", "--from", "rope", "--name", "tuned", *asked, "--runs-dir", own)
    path.unlink()
    stored = yaml.safe_load((own / "tuned" / "config.yaml").read_text())["train"]["extension"]
    assert "yaml" not in stored
    assert stored.endswith("s=4)")
    (row,) = evaluated(own, "tuned", "--length", 64, *TARGETS)
    assert row["extension_params"]["trained"]["longrope"]["factors"] == found["factors"]
    assert row["status"] == "ok"
    # And a search on top of it starts from what it is.
    posx("search", "longrope", "tuned", "--length", 80, "--evaluations", 9, *TARGETS, "--runs-dir", own)
    again = yaml.safe_load((own / "tuned" / "longrope-80.yaml").read_text())
    assert next(iter(again["nats_per_token"])) == "trained"


STOPPED = """
import os, sys
from posx.__main__ import main
import posx.evaluation.longrope_search as search
real, calls, stop, number = search._Judge.nats, [], int(sys.argv.pop(1)), int(sys.argv.pop(1))
def counted(self, candidate, targets):
    calls.append(candidate)
    if len(calls) == stop:
        os.kill(os.getpid(), number)
    return real(self, candidate, targets)
search._Judge.nats = counted
main()
"""


@pytest.mark.parametrize(
    "number, call, done, named",
    [
        pytest.param(signal.SIGINT, 5, 3, ["none", *STARTS[:3], "longrope"], id="among the starts"),
        pytest.param(signal.SIGTERM, 14, 12, ["none", *STARTS, "longrope"], id="in the search"),
        pytest.param(
            signal.SIGINT, 1 + EVALUATIONS + 3, EVALUATIONS, ["none", *STARTS, "longrope"], id="on held-out targets"
        ),
    ],
)
def test_a_signal_keeps_the_best_so_far(own: Path, number: int, call: int, done: int, named: list[str]) -> None:
    path = own / "rope" / "longrope-64.yaml"
    path.unlink()
    child = python(STOPPED, call, int(number), "search", "longrope", "rope", *ASKED, "--runs-dir", own)
    assert child.returncode == 128 + number, child.stderr
    assert f"Stopped after {done} of {EVALUATIONS} evaluations. {path} has the best of them." in child.stderr
    assert "Traceback" not in child.stderr
    assert "Next:" not in child.stderr
    found = yaml.safe_load(path.read_text())
    assert (found["evaluations"], found["interrupted"]) == (done, True)
    assert list(found["nats_per_token"]) == named
    posx("eval", "rope", "--length", 64, "--extension", f"longrope(factors={path})", *TARGETS, "--runs-dir", own)


def test_ctrl_c_before_the_first_leaves_nothing(own: Path) -> None:
    path = own / "rope" / "longrope-64.yaml"
    path.unlink()
    child = python(STOPPED, 2, int(signal.SIGINT), "search", "longrope", "rope", *ASKED, "--runs-dir", own)
    assert child.returncode == 130, child.stderr
    assert not path.exists()


@given(st.integers(1, 90), st.integers(1, 40), st.integers(1, 4))
def test_halves_share_no_target(tails: int, wanted: int, stride: int) -> None:
    ends = np.arange(tails, dtype=np.int64) * stride + 100
    drawn = TargetSet(ends, ends // 50, stride, 8, tails * stride, 0, "drawn")
    first, second = halves(drawn, wanted * stride)
    assert 1 <= len(first.ends) <= wanted
    assert len(first.documents) == len(first.ends)
    if second is None:
        assert tails // 2 * stride < 64
        assert tails < 2 * wanted
    else:
        assert first.ends.max() < second.ends.min()
        assert len(second.ends) == len(first.ends)
        assert first.sha256 != second.sha256
        assert set(second.ends) <= set(ends)
