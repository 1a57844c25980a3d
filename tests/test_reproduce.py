"""The commands behind a number, run as they are printed; and which extension for a length.

Printed lines go through a real shell, in an empty folder, with a ``posx`` that is this one.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data_helpers import TINY, child_environment, sentence, write_jsonl
from helpers import posx
from posx.results.records import Record, current_records, read_record, read_records, write_record

torch.set_num_threads(1)

SAME = 1e-5  # nats a token
LABEL = 'it\'s "a" $HOME b=c, d'
STEPS = 12
UNUSUAL = [
    "scheme.base=500",
    "model.family=llama",
    "model.d_ff=48",
    "optim.lr=0.02",
    "optim.warmup_steps=3",
    "train.batch_tokens=256",
    "train.accumulation=2",
    "data.max_bytes=20000",
]


def tree(folder: Path) -> dict[str, int]:
    """Every file below, with the time of its last change."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 documents of about 200 tokens, in a folder and a file with spaces and quotes."""
    folder = tmp_path_factory.mktemp("text") / "it's my text"
    folder.mkdir()
    return write_jsonl(folder / "a file.jsonl", [sentence(120, n) for n in range(24)])


@pytest.fixture(scope="module")
def runs(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``rope``, unusual and evaluated in two ways; ``learned``; ``alibi``; ``tuned``, a fine-tune of rope."""
    folder = tmp_path_factory.mktemp("reproduce") / "my runs"
    at = ["--runs-dir", folder]
    own = ["data=text", f"data.path={text}", *TINY, f"train.steps={STEPS}", *at]
    posx("train", *own, "--scheme", "rope", "--seed", 3, "--name", "rope", f"label={LABEL}", *UNUSUAL)
    posx("train", *own, "--scheme", "learned", "--name", "learned")
    posx("train", *own, "--scheme", "alibi", "--name", "alibi")
    tuned = ["--extension", "pi", "train.context=3x", "train.steps=5", "train.batch_tokens=192", "label=a 'tuned' one"]
    posx("train", "--from", "rope", "--name", "tuned", *tuned, *at)
    targets = ["eval.stride=2", "eval.target_context=90", "eval.max_targets=100", "eval.seed=7"]
    posx("eval", "rope", "--length", 40, "--extension", "none", "--extension", "ntk(s=3)+window(w=8)", *targets, *at)
    posx("eval", "rope", "--length", 40, "--extension", "pi", "--protocol", "non-overlapping", *at)
    posx("eval", "tuned", "--length", 48, "--extension", "trained", "--extension", "none", *targets, *at)
    posx("eval", "learned", "--length", 16, "--length", 40, "eval.target_context=90", *at)
    return folder


@pytest.fixture
def own(runs: Path, tmp_path: Path) -> Path:
    """The runs, for a test that changes them."""
    return Path(shutil.copytree(runs, tmp_path / "my runs"))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs lines in bash as a user would who pastes them; ``posx`` there is this one."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "posx").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m posx "$@"\n')
    (folder / "posx").chmod(0o755)

    def run(lines: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        environment = child_environment()
        environment["PATH"] = f"{folder}:{environment['PATH']}"
        done = subprocess.run(
            ["sh", "-e", "-c", "\n".join(lines)],
            cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    return run


def cell(runs: Path, run: str, **wanted: Any) -> Record:
    """The one record of a run with these values."""
    found = [r for r in current_records(runs / run) if all(getattr(r, k) == v for k, v in wanted.items())]
    assert len(found) == 1, [(r.run, r.extension, r.length, r.protocol) for r in found]
    return found[0]


def printed(runs: Path, one: Record | str, *more: object) -> list[str]:
    """What --dry-run prints."""
    key = one if isinstance(one, str) else one.key
    return posx("reproduce", key, "--dry-run", *more, "--runs-dir", runs).stdout.splitlines()


def refused(*arguments: object, code: int = 2) -> str:
    """The sentence and the way out of an error; no traceback."""
    result = posx(*arguments, code=code)
    assert "Traceback" not in result.stderr
    message = result.stderr.partition("Error: ")[2]
    assert message
    return " ".join(message.split())


def values(record: Record) -> tuple[float, str]:
    assert record.nats_per_token is not None
    return record.nats_per_token, record.targets_sha256


# ---------------------------------------------------------------- the commands, run as they are


def test_the_printed_commands_of_a_run_give_its_numbers(runs: Path, tmp_path: Path, shell: Callable[..., Any]) -> None:
    """Unusual settings, two protocols: trained once from the printed line, evaluated by each line."""
    cells = [
        cell(runs, "rope", extension="ntk(s=3)+window(w=8)", length=40),
        cell(runs, "rope", protocol="non-overlapping", extension="pi"),
    ]
    lines = [printed(runs, one) for one in cells]
    assert all(len(found) == 2 for found in lines)
    assert lines[0][0] == lines[1][0]
    assert "--seed" in lines[0][0] or "train.seed=3" in lines[0][0]
    where = shlex.quote(str(runs))
    assert all(line.endswith(f"--runs-dir {where}") for found in lines for line in found)
    again = tmp_path / "new runs"
    together = [lines[0][0], lines[0][1], lines[1][1]]
    shell([line.replace(where, shlex.quote(str(again))) for line in together], tmp_path)
    assert [p.name for p in again.iterdir()] == ["rope"]
    stored = (runs / "rope" / "config.yaml").read_text("utf-8")
    assert (again / "rope" / "config.yaml").read_text("utf-8") == stored
    for one in cells:
        made = cell(again, "rope", extension=one.extension, protocol=one.protocol, length=40)
        assert values(made)[0] == pytest.approx(values(one)[0], abs=SAME)
        assert values(made)[1] == values(one)[1]
        assert made.n_targets == one.n_targets
        assert made.label == LABEL


def test_the_printed_commands_of_a_fine_tune_give_its_number(
    runs: Path, tmp_path: Path, shell: Callable[..., Any]
) -> None:
    """Two trainings, the first one first; through the folder that posx takes where none is named."""
    one = cell(runs, "tuned", extension="trained", length=48)
    lines = printed(runs, one)
    assert [line.split()[:4] for line in lines[:2]] == [["posx", "train", "--name", n] for n in ("rope", "tuned")]
    assert "--from rope" in lines[1]
    assert len(lines) == 3
    where = f" --runs-dir {shlex.quote(str(runs))}"
    shell([line.removesuffix(where) for line in lines], tmp_path)
    made = cell(tmp_path / "runs", "tuned", extension="trained", length=48)
    assert values(made)[0] == pytest.approx(values(one)[0], abs=SAME)
    assert values(made)[1] == values(one)[1]
    assert (made.label, made.train_extension, made.base_context) == ("a 'tuned' one", "pi(s=3)", 16)
    assert made.config_sha256 == one.config_sha256


# ---------------------------------------------------------------- posx reproduce


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


def test_each_line_says_what_differs_and_no_more(runs: Path) -> None:
    train, evaluate = map(shlex.split, printed(runs, cell(runs, "rope", extension="none", length=40)))
    set_ = dict(part.partition("=")[::2] for part in train if "=" in part)
    for override in (*UNUSUAL, f"train.steps={STEPS}", "train.seed=3", "scheme=rope", "data=text"):
        key, _, value = override.partition("=")
        assert float(set_[key]) == float(value) if value.replace(".", "").isdigit() else set_[key] == value, override
    assert "model.norm_eps" not in set_
    assert "start.run" not in set_
    assert not [key for key in set_ if key.endswith("_target_")]
    for part in ("eval.stride=2", "eval.target_context=90", "eval.max_targets=100", "eval.seed=7", "eval.split=test"):
        assert part in evaluate
    cut = shlex.split(printed(runs, cell(runs, "rope", protocol="non-overlapping", extension="pi"))[1])
    assert cut[cut.index("--protocol") + 1] == "non-overlapping"
    assert not [part for part in cut if part.startswith(("eval.stride", "eval.target_context"))]


def test_a_beginning_of_the_key_is_enough(runs: Path) -> None:
    one = cell(runs, "learned", extension="none", length=16)
    assert printed(runs, one.key[:8]) == printed(runs, one)


def test_a_path_names_a_cell(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, and relative from every folder in which it is a name."""
    one = cell(runs, "tuned", extension="trained", length=48)
    assert one.path is not None
    assert printed(runs, str(one.path)) == printed(runs, one)
    name = one.path.name
    for folder, text in (
        (runs.parent, f"{runs.name}/tuned/eval/{name}"),
        (runs, f"tuned/eval/{name}"),
        (runs / "tuned", f"eval/{name}"),
        (runs / "tuned" / "eval", name),
    ):
        monkeypatch.chdir(folder)
        assert printed(runs, text) == printed(runs, one), f"{text} in {folder}"


def test_a_path_is_reproduced_wherever_runs_are(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = cell(runs, "learned", extension="none", length=16)
    result = posx("reproduce", one.path)
    assert "The same: " in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_from_scratch_trains_the_chain_elsewhere(own: Path) -> None:
    """Without any weights left, of the fine-tune and of the run that it starts from."""
    one = cell(own, "tuned", extension="trained", length=48)
    for name in ("rope", "tuned"):
        shutil.rmtree(own / name / "checkpoints")
    said = refused("reproduce", one.key, "--runs-dir", own)
    assert "weights of tuned are not here" in said
    assert "--from-scratch" in said
    before = tree(own)
    result = posx("reproduce", one.key, "--from-scratch", "--runs-dir", own)
    last = result.stdout.splitlines()[-1]
    gap = float(re.fullmatch(r"The same: .* \(difference (.*)\)\.", last)[1])  # type: ignore[index]
    assert abs(gap) <= SAME
    assert tree(own) == before


@pytest.mark.parametrize("scratch", [[], ["--from-scratch"]], ids=["same weights", "from scratch"])
def test_another_number_is_said_and_fails(own: Path, scratch: list[str]) -> None:
    one = cell(own, "learned", extension="none", length=16)
    assert one.path is not None
    assert one.nats is not None
    write_record(one.path, replace(one, nats=one.nats + 0.01 * one.n_targets))
    said = refused("reproduce", one.key, *scratch, "--runs-dir", own, code=1)
    assert "Not the same number" in said
    assert f"{read_record(one.path).nats_per_token} nats/token then" in said


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
    assert "other targets" in refused("reproduce", one.key, "--runs-dir", own, code=1)


def test_no_number_is_reproduced_with_its_reason(own: Path) -> None:
    one = cell(own, "learned", extension="none", length=40)
    assert one.status == "unsupported"
    assert one.path is not None
    result = posx("reproduce", one.key, "--runs-dir", own)
    assert result.stdout.splitlines()[-1].startswith("The same: no number, for the same reason")
    write_record(one.path, replace(one, reason="tired"))
    assert "tired" in refused("reproduce", one.key, "--runs-dir", own, code=1)
    write_record(one.path, replace(one, status="ok", reason="", nats=4.0 * one.n_targets))
    assert "is now unsupported" in refused("reproduce", one.key, "--runs-dir", own, code=1)


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
    source = Path(__file__).parent.parent / "configs" / "scheme" / "alibi.yaml"
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
    assert "rope, which is no longer there" in said


# ---------------------------------------------------------------- posx recommend

MASKED = {"window", "sinks", "lm-infinite"}
SHARPER = {"log-n", "temperature", "temperature(c=0.05)", "temperature(c=0.2)", "temperature(c=0.3)"}
MOVED = {
    *("self-extend", "self-extend(w=8)", "rerope", "rerope(w=4)", "rerope(w=15)", "leaky-rerope", "leaky-rerope(w=4)"),
    *("dual-chunk", "dual-chunk(s=8)"),
}
FITTING = {
    "alibi": {"none", "alibi-scale", *MASKED, *SHARPER, *MOVED},
    "rope": {
        *("none", "pi", "ntk", "ntk(s=3.75)", "ntk(s=5)", "ntk(s=10)", "dynamic-ntk", "dynamic-ntk(f=4)", "llama3"),
        *("abf", "abf(base=100000)", "by-parts", "by-parts(s=5)", "yarn", "yarn(s=5)", "resonance"),
        *MASKED,
        *SHARPER,
        *MOVED,
    },
    "learned": {"none", "interpolate", *MASKED, *SHARPER},
}
TARGETS = ["eval.target_context=90", "eval.max_targets=300"]


def asked(runs: Path, *arguments: object) -> Any:
    return posx("recommend", *arguments, *TARGETS, "--runs-dir", runs)


@pytest.mark.parametrize("name", sorted(FITTING))
def test_only_what_fits_is_tried_and_ranked_by_nats(own: Path, name: str) -> None:
    """The order is that of the stored records, all of the validation split."""
    before = {r.key for r in current_records(own / name)}
    rows = json.loads(asked(own, name, "--length", 40, "--json").stdout)
    made = [r for r in current_records(own / name) if r.key not in before]
    assert {r.split for r in made} == {"validation"}
    assert {(r.extension, r.length) for r in made if r.length != 40} == {("none", 16)}
    there = {r.extension: r for r in made if r.length == 40}
    assert set(there) == FITTING[name]
    computed = sorted((r for r in there.values() if r.nats is not None), key=lambda r: values(r)[0])
    ok = [row for row in rows if row["status"] == "ok"]
    assert [row["extension"] for row in ok] == [r.extension for r in computed]
    assert rows[: len(ok)] == ok, "those without a number come last"
    best = values(computed[0])[0]
    for row, one in zip(ok, computed, strict=True):
        assert row["nats_per_token"] == values(one)[0]
        assert row["behind"] == values(one)[0] - best
        assert (row["nats"], row["n_targets"], row["split"]) == (one.nats, one.n_targets, "validation")
        if row is not ok[0]:
            low, high = row["interval"]
            assert low <= row["behind"] <= high
        line = shlex.split(row["line"])
        assert line[:3] == ["posx", "eval", name]
        assert line[line.index("--extension") + 1] == one.extension
        assert line[line.index("--length") + 1] == "40"
    unsupported = {row["extension"]: row for row in rows[len(ok) :]}
    assert set(unsupported) == ({"none", *MASKED, *SHARPER} if name == "learned" else set())
    for row in unsupported.values():
        assert "learned positions end at 16" in row["reason"]
        assert (row["nats_per_token"], row["behind"], row["interval"], row["line"]) == (None, None, None, "")


def test_the_page_shows_rank_cost_interval_and_the_line(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = asked(own, "learned", "--length", 40)
    shown = result.stdout
    rows = json.loads(asked(own, "learned", "--length", 40, "--json").stdout)
    assert "validation split" in shown
    assert "Chosen on validation: report the number of the test split." in shown
    places = [shown.index(f" {row['extension']} ") for row in rows]
    assert places == sorted(places)
    assert f"{rows[0]['nats_per_token']:.3f}" in shown
    assert f"{rows[0]['tokens_per_second']:,.0f}" in shown
    assert re.search(r"\[[-+]\d\.\d{3}, [-+]\d\.\d{3}\]", shown)
    assert "best" in shown
    assert "learned positions end at 16" in shown
    assert f"Use: {rows[0]['line']}" in shown
    assert rows[0]["line"] in result.stderr


def test_the_line_to_use_runs_as_it_is(own: Path, shell: Callable[..., Any]) -> None:
    """A runs directory with a space in it; the number is on the test split."""
    line = asked(own, "rope", "--length", 40).stdout.partition("Use: ")[2].strip()
    before = {r.key for r in current_records(own / "rope")}
    shell([line], own.parent)
    made = [r for r in current_records(own / "rope") if r.key not in before]
    assert {r.split for r in made} == {"test"}
    assert 40 in {r.length for r in made}


def test_the_line_finds_a_run_given_by_its_path(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a folder in which runs/ is none of its business."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shown = posx("recommend", own / "alibi", "--length", 40, *TARGETS).stdout
    line = shlex.split(shown.partition("Use: ")[2].strip())
    posx(*line[1:], "eval.target_context=90")


def test_a_fine_tune_is_tried_with_what_it_was_trained_with(own: Path) -> None:
    rows = json.loads(asked(own, "tuned", "--length", 80, "--json").stdout)
    ok = [row["extension"] for row in rows if row["status"] == "ok"]
    assert "trained" in ok
    assert {row["train_extension"] for row in rows} == {"pi(s=3)"}
    assert "48 need no extension" in refused("recommend", "tuned", "--length", 48, "--runs-dir", own)


def test_tables_of_the_test_split_do_not_change(own: Path) -> None:
    before = posx("table", "--format", "md", "--runs-dir", own).stdout
    cells = posx("table", "--format", "json", "--protocol", "all", "--runs-dir", own).stdout
    asked(own, "rope", "--length", 40)
    asked(own, "rope", "--length", 64)
    assert {r.split for r in read_records(own, [])} == {"test", "validation"}
    assert posx("table", "--format", "md", "--runs-dir", own).stdout == before
    assert posx("table", "--format", "json", "--protocol", "all", "--runs-dir", own).stdout == cells
    assert "validation" not in before


def test_asked_twice_it_computes_once(own: Path) -> None:
    first = json.loads(asked(own, "alibi", "--length", 40, "--json").stdout)
    before = tree(own / "alibi" / "eval")
    assert json.loads(asked(own, "alibi", "--length", "2.5x", "--json").stdout) == first
    assert tree(own / "alibi" / "eval") == before


def test_a_validation_split_that_is_too_short_says_what_it_holds(own: Path) -> None:
    """And the way out that it names is one."""
    said = refused("recommend", "alibi", "--length", 4000, "--runs-dir", own)
    assert "The validation split has fewer than 64 targets with 4000 tokens" in said
    held = int(re.search(r"lengths up to (\d+) and eval.target_context=\1\.", said)[1])  # type: ignore[index]
    posx("recommend", "alibi", "--length", held, f"eval.target_context={held}", "--runs-dir", own)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["rope"], "For which length?", id="no length"),
        pytest.param(["rope", "--length", "16"], "need no extension", id="the training context"),
        pytest.param(["rope", "--length", "1x"], "need no extension", id="1x"),
        pytest.param(["rope", "--length", "8"], "need no extension", id="shorter"),
        pytest.param(["rope", "--length", "long"], "'long' is not a length", id="no number"),
        pytest.param(["rope", "--length", "0"], "0 tokens", id="zero"),
        pytest.param(["rope", "--length=-40"], "'-40' is not a length", id="negative"),
        pytest.param(["rope", "alibi", "--length", "40"], "One run at a time", id="two runs"),
        pytest.param(["rpoe", "--length", "40"], "Did you mean rope", id="unknown run"),
        pytest.param(["rope", "--length", "40", "eval.stirde=1"], "stride", id="unknown setting"),
        pytest.param(["rope", "--length", "40", "eval.split=train"], "none of its choices", id="unknown split"),
        pytest.param(["rope", "--length", "40", "eval.lengths=[80]"], "eval.lengths", id="two lengths"),
        pytest.param(["rope", "--length", "40", "eval.extensions=[pi]"], "eval.extensions", id="an extension"),
        pytest.param(["--length", "40", "--runs-dir", "{empty}"], "no finished run", id="no runs"),
    ],
)
def test_bad_input_is_a_sentence(runs: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    given = [a.format(empty=tmp_path) for a in arguments]
    where = [] if "--runs-dir" in given else ["--runs-dir", runs]
    before = tree(runs)
    assert said in refused("recommend", *given, *where)
    assert tree(runs) == before


def test_without_a_run_it_takes_the_newest(own: Path) -> None:
    result = asked(own, "--length", 80)
    assert "The newest finished run is tuned." in result.stderr
    assert "posx eval tuned" in result.stdout
