"""posx search longrope: real searches of a tiny run, beside what posx eval says of the same targets."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data_helpers import TINY, python, sentence, write_jsonl
from helpers import make_scheme, posx
from posx.config.schema import ModelConfig
from posx.evaluation.evolution import Candidate, Space, as_factors, evolve, space_of, tidy
from posx.evaluation.longrope_search import halves
from posx.evaluation.protocols.fixed_targets import TargetSet
from posx.extensions.base import Target
from posx.extensions.ntk import NTK
from posx.extensions.pi import PI, ScaledConfig
from posx.extensions.yarn import Yarn

STARTS = ["pi", "ntk", "ntk(s=6)", "ntk(s=8)", "ntk(s=16)", "by-parts", "by-parts(s=8)", "yarn", "yarn(s=8)"]
EVALUATIONS = 16
TARGETS = ["eval.target_context=90", "eval.max_targets=64"]
ASKED = ["--length", "4x", "--evaluations", EVALUATIONS, *TARGETS]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``rope`` and ``alibi`` at 16 tokens, on 24 documents of about 200."""
    folder = tmp_path_factory.mktemp("search")
    path = write_jsonl(folder / "a.jsonl", [sentence(120, n) for n in range(24)])
    for scheme in ("rope", "alibi"):
        own = ["data=text", f"data.path={path}", *TINY, "train.steps=40", "--scheme", scheme, "--name", scheme]
        posx("train", *own, "--runs-dir", folder / "runs")
    return folder / "runs"


@pytest.fixture(scope="module")
def searched(runs: Path) -> Path:
    """The file of a search."""
    posx("search", "longrope", "rope", *ASKED, "--runs-dir", runs)
    return runs / "rope" / "longrope-64.yaml"


@pytest.fixture
def own(runs: Path, searched: Path, tmp_path: Path) -> Path:
    """The runs, for a test that changes them."""
    return Path(shutil.copytree(runs, tmp_path / "runs"))


def refused(*arguments: object) -> str:
    result = posx(*arguments, code=2)
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.partition("Error: ")[2].split())


def evaluated(runs: Path, run: str, *arguments: object) -> list[dict[str, Any]]:
    """The records of posx eval at 64 tokens."""
    rows = json.loads(posx("eval", run, *arguments, "--json", "--runs-dir", runs).stdout)
    return [row for row in rows if row["length"] == 64]


# ---------------------------------------------------------------- what it finds


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


def test_a_search_leaves_a_file_and_nothing_else(own: Path, tmp_path: Path) -> None:
    """No records: 64 candidates are no rows of a table."""
    before = {p: p.stat().st_mtime_ns for p in own.rglob("*")}
    posx("search", "longrope", "rope", *ASKED, "-o", tmp_path / "new" / "here.yaml", "--runs-dir", own)
    assert {p: p.stat().st_mtime_ns for p in own.rglob("*")} == before
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["here.yaml"]


def test_the_page_and_the_next_step(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = posx("search", "longrope", "rope", *ASKED, "--runs-dir", own)
    found = yaml.safe_load((own / "rope" / "longrope-64.yaml").read_text())
    for name in found["nats_per_token"]:
        line = next(line for line in result.stdout.splitlines() if f"│ {name} " in line)
        assert f"{found['nats_per_token'][name]:.3f}" in line
        assert f"{found['held_out_nats_per_token'][name]:.3f}" in line
    assert f"is the best of {EVALUATIONS} on the targets of the search, which flatter it" in result.stdout
    assert "report the number of the test split" in result.stdout
    assert f"{EVALUATIONS}/{EVALUATIONS}  best {found['nats_per_token']['longrope']:.3f}" in result.stderr
    line = shlex.split(result.stderr.partition("Next: ")[2])
    (row,) = [r for r in json.loads(posx(*line[1:], "--json", *TARGETS).stdout) if r["length"] == 64]
    assert row["split"] == "test"
    assert row["extension_params"]["longrope"]["factors"] == found["factors"]


def test_json_is_the_file(own: Path) -> None:
    told = json.loads(posx("search", "longrope", "rope", *ASKED, "--json", "--runs-dir", own).stdout)
    path = Path(told.pop("file"))
    assert told == yaml.safe_load(path.read_text())


def test_few_targets_hold_nothing_out(own: Path) -> None:
    """All that there are are searched with, and the page says why there is no other column."""
    most = ["--length", "64", "--evaluations", 9, "eval.target_context=200", "eval.stride=16", "eval.max_targets=4096"]
    result = posx("search", "longrope", "rope", *most, "--runs-dir", own)
    found = yaml.safe_load((own / "rope" / "longrope-64.yaml").read_text())
    if found["held_out_targets"] == 0:
        assert "there are too few targets for two sets" in result.stdout
        assert set(found["held_out_nats_per_token"].values()) == {None}
    assert found["evaluations"] == 9


# ---------------------------------------------------------------- what is done with the file


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


# ---------------------------------------------------------------- Ctrl-C

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
    assert f"Stopped after {done} of {EVALUATIONS} evaluations: {path} holds the best of these." in child.stderr
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


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "arguments, said",
    [
        pytest.param([], "Search for what?", id="nothing"),
        pytest.param(["longrpoe", "rope", "--length", "4x"], "Did you mean longrope", id="unknown"),
        pytest.param(["longrope", "rope"], "For which length?", id="no length"),
        pytest.param(["longrope", "rope", "--length", "16"], "need no extension", id="L"),
        pytest.param(["longrope", "rope", "--length", "1x"], "need no extension", id="1x"),
        pytest.param(["longrope", "rope", "--length", "8"], "need no extension", id="shorter"),
        pytest.param(["longrope", "rope", "--length", "far"], "'far' is not a length", id="no number"),
        pytest.param(["longrope", "rpoe", "--length", "4x"], "Did you mean rope", id="unknown run"),
        pytest.param(["longrope", "rope", "alibi", "--length", "4x"], "One run at a time", id="two runs"),
        pytest.param(["longrope", "alibi", "--length", "4x"], "alibi rotates no queries", id="no rotation"),
        pytest.param(["longrope", "rope", "--length", "4x", "eval.split=test"], "validation alone", id="test split"),
        pytest.param(["longrope", "rope", "--length", "4x", "eval.lengths=[80]"], "Use --length", id="lengths"),
        pytest.param(["longrope", "rope", "--length", "4x", "eval.extensions=[pi]"], "its own", id="extensions"),
        pytest.param(["longrope", "rope", "--length", "4x", "--protocol"], "", id="unknown flag"),
        pytest.param(["longrope", "rope", "--length", "4x", "eval.protocol=stream"], "fixed-targets", id="protocol"),
        pytest.param(["longrope", "rope", "--length", "4x", "--evaluations", "8"], "Give at least 9", id="few"),
        pytest.param(["longrope", "rope", "--length", "4x", "eval.stirde=1"], "stride", id="unknown setting"),
        pytest.param(["longrope", "rope", "--length", "4x", "-o", "."], "is a directory", id="a folder"),
        pytest.param(["longrope", "rope", "--length", "4000"], "fewer than 64 targets", id="too long"),
    ],
)
def test_bad_input_is_a_sentence(runs: Path, arguments: list[str], said: str) -> None:
    before = {p: p.stat().st_mtime_ns for p in runs.rglob("*")}
    assert said in refused("search", *arguments, "--runs-dir", runs)
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("*")} == before


def test_an_unfinished_run_is_refused(own: Path) -> None:
    config = own / "rope" / "config.yaml"
    config.write_text(config.read_text().replace("steps: 40", "steps: 50"))
    assert "rope is not finished: step 40 of 50" in refused("search", "longrope", "rope", *ASKED, "--runs-dir", own)
    shutil.rmtree(own / "rope" / "checkpoints")
    assert "has no checkpoint yet" in refused("search", "longrope", "rope", *ASKED, "--runs-dir", own)


# ---------------------------------------------------------------- the evolution by itself


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10**6), st.sampled_from([1.5, 4.0, 64.0]))
def test_candidates_are_what_they_may_be(pairs: int, seed: int, s: float) -> None:
    """Starts first; then factors that never fall, from 1 to the most; no candidate twice."""
    target = Target(64, round(64 * s))
    starts = [Candidate((s,) * pairs, 0, 1.0), Candidate(tidy([s ** (k / pairs) for k in range(pairs)]), 0, 1.2)]
    space = space_of(starts, target)
    assert space.firsts == (0, 1, 2, 4, 8, 16, 32)
    assert space.attentions == (None, 1.0, 1.2)
    random = np.random.default_rng(seed)
    found = [one.candidate for one in evolve(starts, lambda c: sum(c.factors), space, 40, random)]
    assert found[:2] == starts[:2]
    assert len(set(found)) == len(found) == 40
    for one in found:
        assert len(one.factors) == pairs
        assert all(low <= high for low, high in zip(one.factors, one.factors[1:], strict=False))
        assert one.factors[0] >= 1
        assert one.factors[-1] <= space.most
        assert one.n in space.firsts
        assert one.attention in space.attentions


def test_it_finds_what_is_there_to_find() -> None:
    """Hidden factors, an n and an attention, by their distance: in 64 evaluations from starts far from them."""
    hidden = np.log([1, 1, 1.1, 1.5, 2, 3, 3.5, 4])

    def distance(one: Candidate) -> float:
        return float(np.abs(np.log(one.factors) - hidden).mean()) + 0.1 * (one.n != 2) + 0.1 * (one.attention != 1.0)

    starts = [Candidate((4.0,) * 8, 0, 1.0), Candidate(tidy([4 ** (k / 7) for k in range(8)]), 0, 1.1)]
    space = space_of(starts, Target(64, 256))
    shares = []
    for seed in range(10):
        found = [one.nats for one in evolve(starts, distance, space, 64, np.random.default_rng(seed))]
        shares.append(min(found) / min(found[:2]))
    assert sum(shares) / len(shares) < 0.7, shares
    assert max(shares) < 1, shares


def test_it_ends_where_there_is_nothing_new() -> None:
    space = Space(1.0, (0,), (None,))
    assert len(list(evolve([Candidate((1.0,))], lambda _: 0.0, space, 64, np.random.default_rng(0)))) == 1


def test_a_number_that_is_none_is_never_the_best() -> None:
    starts = [Candidate((1.0, 2.0)), Candidate((1.0, 3.0))]
    scores = {starts[0]: math.inf, starts[1]: 1.0}
    space = space_of(starts, Target(16, 64))
    found = list(evolve(starts, lambda one: scores.get(one, 2.0), space, 10, np.random.default_rng(0)))
    assert min(found, key=lambda one: one.nats).candidate == starts[1]


def test_other_scalings_as_factors() -> None:
    """pi: s; ntk: from 1 to s in equal steps of the logarithm; yarn's temperature. θ = 0 takes a neighbour's factor."""
    target, theta = Target(16, 64), make_scheme("rope", ModelConfig(d_model=8, n_heads=1)).frequencies()
    assert as_factors(PI(ScaledConfig()), theta, target) == Candidate((4.0,) * 4, 0, 1.0)
    assert as_factors(NTK(ScaledConfig()), theta, target).factors == (1.0, 1.587, 2.52, 4.0)
    yarn = Yarn(Yarn.Config())
    assert as_factors(yarn, theta, target).attention == pytest.approx(0.1 * math.log(4) + 1, rel=1e-5)
    still = torch.where(torch.arange(4) < 2, theta, 0.0)
    assert as_factors(PI(ScaledConfig()), still, target).factors == (4.0,) * 4


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
