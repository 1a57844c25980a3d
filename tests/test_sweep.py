"""Sweeps: what is planned, what is run, what is left alone, and what a failure costs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from data_helpers import child_environment, sentence, silent, write_jsonl
from helpers import posx
from posx.cli.app import app
from posx.config.schema import EvalConfig
from posx.results.records import read_records
from posx.sweeps.plan import JobPlan, read_sweep

torch.set_num_threads(1)

TINY = [
    "data=text",
    "model.n_layers=1",
    "model.d_model=16",
    "model.n_heads=2",
    "tokenizer.vocab_size=300",
    "train.context=8",
    "train.steps=3",
    "train.batch_tokens=64",
    "train.eval_tokens=64",
    "train.log_every=1",
    "train.dtype=float32",
    "train.device=cpu",
    "train.compile=off",
    "eval.max_targets=128",
]
LONG = {"scheme": "alibi", "label": "alibi-long", "overrides": ["train.context=16", "train.log_every=2"]}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 documents of about 200 tokens: enough for targets at 8x of a context of 16."""
    return write_jsonl(tmp_path_factory.mktemp("text") / "a.jsonl", [sentence(120, n) for n in range(24)])


@pytest.fixture(autouse=True)
def children_import_this_posx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are processes of their own."""
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])


def sweep_file(path: Path, text: Path, **settings: Any) -> Path:
    """A sweep over this text; ``settings`` replace its parts, ``more`` adds overrides."""
    schemes = settings.pop("schemes", ["rope", LONG])
    rows = {row if isinstance(row, str) else row["scheme"] for row in schemes}
    extensions = {"rope": ["none", "pi"], "alibi": ["none", "window"]}
    values: dict[str, Any] = {
        "schemes": schemes,
        "seeds": [0, 1],
        "overrides": [*TINY, f"data.path={text}", *settings.pop("more", [])],
        "lengths": ["1x", "2x"],
        "extensions": {row: names for row, names in extensions.items() if row in rows},
        **settings,
    }
    path.write_text(yaml.safe_dump(values), "utf-8")
    return path


def planned(path: Path, *overrides: str) -> list[JobPlan]:
    return read_sweep(path, list(overrides), silent, None, False).jobs


def evals(jobs: list[JobPlan]) -> list[EvalConfig]:
    """Every evaluation of these jobs; each has one at least."""
    assert all(job.evals for job in jobs)
    return [one for job in jobs for one in job.evals]


def weights(runs: Path) -> dict[str, tuple[int, bytes]]:
    """The checkpoint of every run: when it was written, and what it holds."""
    return {
        p.parent.parent.parent.name: (p.stat().st_mtime_ns, p.read_bytes())
        for p in runs.glob("*/checkpoints/step-*/model.safetensors")
    }


# ---------------------------------------------------------------- plans


def test_a_sweep_is_every_row_with_every_seed(tmp_path: Path, text: Path) -> None:
    base = {"scheme": "rope", "label": "rope-500", "overrides": ["scheme.base=500"]}
    jobs = planned(sweep_file(tmp_path / "s.yaml", text, schemes=["rope", base, LONG]))
    rows = [(j.config.label, j.config.scheme["name"], j.config.train.seed, j.config.train.context) for j in jobs]
    assert rows == [
        (label, scheme, seed, context)
        for label, scheme, context in (("rope", "rope", 8), ("rope-500", "rope", 8), ("alibi-long", "alibi", 16))
        for seed in (0, 1)
    ]
    assert len({job.name for job in jobs}) == 6
    assert all(job.name.startswith(f"{job.config.label}-seed{job.config.train.seed}-") for job in jobs)
    assert [job.config.scheme["base"] for job in jobs[:4]] == [10000, 10000, 500, 500]
    assert [job.config.train.log_every for job in jobs] == [1, 1, 1, 1, 2, 2]  # a row beats what all share
    assert all(len(job.evals) == 1 and job.after is None for job in jobs)
    assert all(one.lengths == ["1x", "2x"] and one.max_targets == 128 for one in evals(jobs))
    assert {one.protocol for one in evals(jobs)} == {"fixed-targets"}


def test_extensions_go_by_label_and_else_by_scheme(tmp_path: Path, text: Path) -> None:
    rows = ["rope", {"scheme": "rope", "label": "other"}, LONG, "nope"]
    extensions = {"rope": ["none", "pi"], "other": ["ntk"], "alibi": ["window"]}
    jobs = planned(sweep_file(tmp_path / "s.yaml", text, schemes=rows, seeds=[0], extensions=extensions))
    assert {j.config.label: [one.extensions for one in j.evals] for j in jobs} == {
        "rope": [["none", "pi"]],
        "other": [["ntk"]],
        "alibi-long": [["window"]],
        "nope": [["trained"]],  # with nothing: records say "none", as every run from scratch has it
    }


def test_stride_and_target_context_are_one_for_all(tmp_path: Path, text: Path) -> None:
    """L = 8 and 16: S from the smallest, the context from the largest."""
    jobs = planned(sweep_file(tmp_path / "s.yaml", text, seeds=[0]))
    assert {(one.stride, one.target_context) for one in evals(jobs)} == {(1, 128)}
    jobs = planned(
        sweep_file(tmp_path / "t.yaml", text, seeds=[0], schemes=["rope"], more=["train.context=16"], lengths=["150"])
    )
    assert {(one.stride, one.target_context) for one in evals(jobs)} == {(1, 150)}
    jobs = planned(sweep_file(tmp_path / "u.yaml", text, seeds=[0], more=["eval.stride=4", "eval.target_context=64"]))
    assert {(one.stride, one.target_context) for one in evals(jobs)} == {(4, 64)}


def test_a_name_is_what_a_job_computes(tmp_path: Path, text: Path) -> None:
    def names(*more: str, **settings: Any) -> list[str]:
        path = sweep_file(tmp_path / "s.yaml", text, schemes=["rope"], seeds=[0], more=list(more), **settings)
        return [job.name for job in planned(path)]

    first = names()
    assert names() == first
    assert names("train.threads=1", "train.log_every=2") == first  # change no result
    assert names("eval.stride=2", lengths=["1x"]) == first  # of the evaluation
    assert set(names("optim.lr=0.01")).isdisjoint(first)
    assert set(names("train.steps=4")).isdisjoint(first)
    assert set(names("tokenizer.vocab_size=280")).isdisjoint(first)
    changed = text.with_name("b.jsonl")
    changed.write_text(text.read_text("utf-8").replace("cat", "dog"), "utf-8")
    shutil.copy(text, tmp_path / "kept.jsonl")
    try:
        shutil.copy(changed, text)
        assert set(names()).isdisjoint(first)
    finally:
        shutil.copy(tmp_path / "kept.jsonl", text)


def test_overrides_of_the_command_line_beat_the_file(tmp_path: Path, text: Path) -> None:
    path = sweep_file(tmp_path / "s.yaml", text, seeds=[0])
    assert {j.config.train.steps for j in planned(path, "train.steps=2")} == {2}
    assert {one.max_targets for one in evals(planned(path, "eval.max_targets=64"))} == {64}


@pytest.mark.parametrize(
    ("override", "part", "wanted"),
    [
        ("eval.lengths=[1x]", "lengths", ["1x"]),
        ("eval.extensions=[none]", "extensions", ["none"]),
        ("train.seed=7", "seed", 7),
    ],
)
def test_no_override_is_dropped_in_silence(
    tmp_path: Path, text: Path, override: str, part: str, wanted: object
) -> None:
    """What the file says elsewhere too must give way, or be refused; nothing else is what was asked."""
    path = sweep_file(tmp_path / "s.yaml", text, schemes=["rope"], seeds=[0])
    result = CliRunner().invoke(app, ["sweep", str(path), override, "--dry-run", "--runs-dir", str(tmp_path / "runs")])
    if result.exit_code == 2 and "Error: " in result.stderr:
        return
    for job in planned(path, override):
        for one in evals([job]):
            got = {"lengths": one.lengths, "extensions": one.extensions, "seed": job.config.train.seed}
            assert got[part] == wanted


def test_a_label_may_hold_any_sign(tmp_path: Path, text: Path) -> None:
    for label in ("a b/c", "50 % (b=1), {c}", "it's", "_x", "500", "λ"):
        rows = [{"scheme": "rope", "label": label}]
        (job,) = planned(sweep_file(tmp_path / "s.yaml", text, schemes=rows, seeds=[0], extensions={}))
        assert job.config.label == label


def test_dry_run_lists_and_does_nothing(tmp_path: Path, text: Path) -> None:
    path = sweep_file(tmp_path / "s.yaml", text)
    result = posx("sweep", path, "--dry-run", "--runs-dir", tmp_path / "runs")
    for job in planned(path):
        assert job.name in result.stdout
    assert result.stdout.count("to do") == 4
    assert not (tmp_path / "runs").exists()


def test_dry_run_says_what_comes_next(tmp_path: Path, text: Path) -> None:
    path = sweep_file(tmp_path / "s.yaml", text, schemes=["rope"], seeds=[0])
    result = posx("sweep", path, "--dry-run", "--runs-dir", tmp_path / "runs")
    assert "Next: " in result.stdout + result.stderr


def test_the_quickstart_is_as_the_readme_says(tmp_path: Path) -> None:
    from posx.config.catalog import packaged_configs

    file = yaml.safe_load((packaged_configs() / "sweep" / "quick.yaml").read_text("utf-8"))
    schemes = [row if isinstance(row, str) else row["scheme"] for row in file["schemes"]]
    assert schemes == ["nope", "sinusoidal", "learned", "rope", "alibi", "t5"]
    assert set(file["extensions"]["rope"]) >= {"none", "pi", "ntk"}
    assert file["lengths"] == ["1x", "2x", "4x", "8x"]


# ---------------------------------------------------------------- broken files

BROKEN: dict[str, tuple[str, str]] = {
    "empty": ("", "names no schemes"),
    "no yaml": ("schemes: [rope\n", "not valid YAML"),
    "tab": ("schemes:\n\t- rope\n", "not valid YAML"),
    "a list": ("- rope\n", "s.yaml"),
    "a word": ("rope\n", "s.yaml"),
    "unknown key": ("schemez: [rope]\n", "Did you mean schemes"),
    "unknown key of a row": ("schemes: [{schem: rope}]\n", "Did you mean scheme"),
    "unknown scheme": ("schemes: [rop]\n", "Did you mean rope"),
    "a row without a scheme": ("schemes: [{label: a}]\n", "names no scheme"),
    "an empty row": ("schemes: [null]\n", "names no scheme"),
    "a number as a row": ("schemes: [3]\n", "s.yaml"),
    "one scheme as a word": ("schemes: rope\n", "takes a list"),
    "no schemes": ("schemes: []\n", "names no schemes"),
    "no seeds": ("schemes: [rope]\nseeds: []\n", "names no seeds"),
    "seeds as a number": ("schemes: [rope]\nseeds: 3\n", "seeds takes a list"),
    "seeds as words": ("schemes: [rope]\nseeds: [one]\n", "whole number"),
    "a fraction as a seed": ("schemes: [rope]\nseeds: [1.5]\n", "whole number"),
    "a negative seed": ("schemes: [rope]\nseeds: [-1]\n", "train.seed=-1"),
    "a seed twice": ("schemes: [rope]\nseeds: [0, 0]\n", "twice"),
    "a label twice": ("schemes: [rope, rope]\n", "twice"),
    "a label twice by hand": ("schemes: [rope, {scheme: alibi, label: rope}]\n", "twice"),
    "unknown extension": ("schemes: [rope]\nextensions: {rope: [pii]}\n", "Did you mean pi"),
    "an extension that does not fit": ("schemes: [rope]\nextensions: {rope: [interpolate]}\n", "does not fit rope"),
    "two that do not go together": ("schemes: [rope]\nextensions: {rope: [pi+ntk]}\n", "one at a time"),
    "extensions of no row": ("schemes: [rope]\nextensions: {rop: [pi]}\n", "Did you mean rope"),
    "extensions as a list": ("schemes: [rope]\nextensions: [pi]\n", "extensions takes"),
    "an extension as a word": ("schemes: [rope]\nextensions: {rope: pi}\n", "takes a list"),
    "no extension": ("schemes: [rope]\nextensions: {rope: []}\n", "xtension"),
    "lengths as a word": ("schemes: [rope]\nlengths: 2x\n", "lengths takes a list"),
    "a bad length": ("schemes: [rope]\nlengths: [two]\n", "is not a length"),
    "no length": ("schemes: [rope]\nlengths: []\n", "ength"),
    "a length that no document has": ("schemes: [rope]\nlengths: [1x, 1000x]\n", "It holds targets for a context"),
    "a context that no document fills": (
        "schemes: [{scheme: rope, overrides: [train.context=512, train.batch_tokens=512]}]\nlengths: [1x]\n",
        "train.context=512",
    ),
    "a stride longer than a window": ("schemes: [rope]\noverrides: [eval.stride=9]\n", "eval.stride=9"),
    "a target context that is too short": (
        "schemes: [rope]\noverrides: [eval.target_context=9]\n",
        "eval.target_context=9",
    ),
    "overrides as a word": ("schemes: [rope]\noverrides: train.steps=3\n", "overrides takes a list"),
    "an override as a mapping": ("schemes: [rope]\noverrides: [{train.steps: 3}]\n", "override"),
    "an unknown override": ("schemes: [rope]\noverrides: [train.stepz=3]\n", "Did you mean train.steps"),
    "an override without a value": ("schemes: [rope]\noverrides: [train.steps]\n", "train.steps"),
    "a bad row override": ("schemes: [{scheme: rope, overrides: [model.n_heads=3]}]\n", "does not divide"),
    "missing data": ("schemes: [rope]\noverrides: [data=text, data.path=nowhere.txt]\n", "nowhere.txt"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_a_sentence_before_any_work(
    tmp_path: Path, text: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, says = BROKEN[name]
    Path("s.yaml").write_text(content, "utf-8")
    tiny = [o for o in [*TINY, f"data.path={text}"] if o.partition("=")[0] not in content or "overrides" not in content]
    # --dry-run checks just as much, and were nothing refused, no job would start here.
    result = posx("sweep", "s.yaml", *tiny, "--dry-run", code=2)
    message = result.stderr.partition("Error: ")[2]
    assert says in " ".join(message.split())
    assert 1 <= len([line for line in message.splitlines() if line.strip()]) <= 2
    assert result.stdout == ""
    assert [p.name for p in tmp_path.iterdir()] == ["s.yaml"]


def test_what_is_no_file_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder.yaml").mkdir()
    Path("binary.yaml").write_bytes(b"\xff\xfe")
    for name, says in (
        ("missing.yaml", "no sweep file missing.yaml"),
        ("quik", "Did you mean quick"),
        ("binary.yaml", "not UTF-8"),
        ("folder", "is a directory"),
        ("folder.yaml", "is a directory"),
    ):
        assert says in posx("sweep", name, "--dry-run", code=2).stderr
    posx("sweep", "quick", "--workers", "0", code=2)


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def swept(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A sweep file, the runs directory of its first run, and what was printed to standard output."""
    folder = tmp_path_factory.mktemp("sweep")
    path = sweep_file(folder / "s.yaml", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
        result = posx("sweep", path, "--workers", 2, "--runs-dir", folder / "runs")
    assert "4 jobs, 4 to do, 2 at a time" in " ".join(result.stderr.split())
    return path, folder / "runs", result.stdout


def copied(swept: tuple[Path, Path, str], tmp_path: Path) -> Path:
    """The runs, for a test that changes them."""
    return Path(shutil.copytree(swept[1], tmp_path / "runs"))


def test_a_sweep_trains_and_evaluates_every_job(swept: tuple[Path, Path, str]) -> None:
    path, runs, printed = swept
    jobs = planned(path)
    assert weights(runs).keys() == {job.name for job in jobs}
    cells = {(r.label, r.seed, r.extension, r.length) for r in read_records(runs, [])}
    assert cells == {
        (label, seed, extension, length)
        for label, extensions, lengths in (
            ("rope", ("none", "pi"), (8, 16)),
            ("alibi-long", ("none", "window"), (16, 32)),
        )
        for seed in (0, 1)
        for extension in extensions
        for length in lengths
    }
    for label in ("rope", "alibi-long"):
        assert label in printed
    assert all((runs / f"s{suffix}").stat().st_size > 100 for suffix in (".md", ".json", "-length.png", "-length.svg"))
    table = json.loads((runs / "s.json").read_text("utf-8"))
    assert {tuple(cell["seeds"]) for cell in table} == {(0, 1)}


def test_all_jobs_share_their_targets_whatever_their_context(swept: tuple[Path, Path, str]) -> None:
    """Else the rows of the table would be scored on unlike text. DESIGN: a sweep fixes targets once."""
    records = read_records(swept[1], [])
    assert {r.base_context for r in records} == {8, 16}
    assert len({r.targets_sha256 for r in records}) == 1
    assert {(r.stride, r.target_context, r.n_targets) for r in records} == {(1, 128, 128)}


def test_a_second_run_does_nothing_and_prints_the_same_table(swept: tuple[Path, Path, str], tmp_path: Path) -> None:
    runs = copied(swept, tmp_path)
    before = weights(runs)
    result = posx("sweep", swept[0], "--runs-dir", runs)
    assert "4 jobs, 0 to do" in " ".join(result.stderr.split())
    assert weights(runs) == before
    assert result.stdout == swept[2]
    listed = posx("sweep", swept[0], "--dry-run", "--runs-dir", runs).stdout
    assert listed.count("done") == 4
    assert "to do" not in listed


def test_a_job_that_fails_stops_no_other_and_only_what_is_missing_is_done(
    swept: tuple[Path, Path, str], text: Path, tmp_path: Path
) -> None:
    """Of the earlier sweep one run was deleted; a row that diverges stands before it."""
    runs = copied(swept, tmp_path)
    gone = next(job.name for job in planned(swept[0]) if job.name.startswith("alibi-long-seed1"))
    before = weights(runs)
    shutil.rmtree(runs / gone)
    boom = {"scheme": "rope", "label": "boom", "overrides": ["optim.lr=1e30"]}
    path = sweep_file(tmp_path / "s.yaml", text, schemes=[boom, "rope", LONG], seeds=[1])
    result = posx("sweep", path, "--workers", 2, "--runs-dir", runs, code=1)
    words = " ".join(result.stderr.split())
    assert "3 jobs, 2 to do" in words
    assert "Training diverged at step" in words
    assert "1 of 3 jobs failed" in words
    after = weights(runs)
    assert after[gone][1] == before[gone][1]  # the same weights, trained again
    assert after[gone][0] != before[gone][0]
    assert {k: v for k, v in after.items() if k != gone} == {k: v for k, v in before.items() if k != gone}
    table = (runs / "s.md").read_text("utf-8")
    assert "| alibi-long (L = 16) | none |" in table
    assert "boom" not in table
    assert "alibi-long" in result.stdout
    for log in (runs / ".jobs").glob("boom*.log"):
        assert "Traceback" not in log.read_text("utf-8")


def test_dry_run_knows_what_a_run_would_do(swept: tuple[Path, Path, str], tmp_path: Path) -> None:
    runs = copied(swept, tmp_path)
    gone = planned(swept[0])[1].name
    shutil.rmtree(runs / gone)
    listed = posx("sweep", swept[0], "--dry-run", "--runs-dir", runs).stdout
    assert [line.split()[1] for line in listed.splitlines() if "to do" in line] == [gone]


def test_deleted_evaluations_are_missing_too(swept: tuple[Path, Path, str], tmp_path: Path) -> None:
    """``posx table`` reads them from the run, so that a sweep must not call them done."""
    runs = copied(swept, tmp_path)
    gone = planned(swept[0])[0].name
    shutil.rmtree(runs / gone / "eval")
    listed = posx("sweep", swept[0], "--dry-run", "--runs-dir", runs).stdout
    assert [line.split()[1] for line in listed.splitlines() if "to do" in line] == [gone]


def test_a_change_of_lengths_evaluates_and_does_not_train(
    swept: tuple[Path, Path, str], text: Path, tmp_path: Path
) -> None:
    runs = copied(swept, tmp_path)
    before = weights(runs)
    path = sweep_file(tmp_path / "s.yaml", text, schemes=["rope"], seeds=[0], extensions={}, lengths=["1x", "3x"])
    posx("sweep", path, "--runs-dir", runs)
    assert weights(runs) == before
    cells = json.loads((runs / "s.json").read_text("utf-8"))
    assert [(cell["length"], cell["extension"]) for cell in cells] == [(8, "none"), (24, "none")]


# ---------------------------------------------------------------- signals


def children(process: int) -> set[int]:
    """Processes that this one has started and that still run."""
    listed = Path(f"/proc/{process}/task/{process}/children")
    return {int(word) for word in listed.read_text().split()} if listed.exists() else set()


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def started(path: Path, runs: Path) -> subprocess.Popen[str]:
    """A sweep in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "posx", "sweep", str(path), "--workers", "2", "--runs-dir", str(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **child_environment()},
    )


def stopped(process: subprocess.Popen[str], ready: Callable[[], bool], number: signal.Signals) -> set[int]:
    """Send a signal to a sweep, and to it alone, as soon as it is ``ready``; the jobs that it had then, all gone."""
    jobs: set[int] = set()
    try:
        end = time.monotonic() + 60
        while not ready():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end, "no job began"
            time.sleep(0.01)
        jobs = children(process.pid)
        process.send_signal(number)
        err = process.communicate(timeout=60)[1]
        assert process.returncode == 128 + number
        assert "Traceback" not in err
        assert [job for job in jobs if alive(job)] == []
    finally:
        for left in [process.pid, *jobs]:
            if alive(left):
                os.kill(left, signal.SIGKILL)
        process.communicate()
    return jobs


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_ctrl_c_saves_every_job_and_a_rerun_completes(text: Path, tmp_path: Path) -> None:
    path = sweep_file(tmp_path / "s.yaml", text, schemes=["nope"], seeds=[0], more=["train.steps=300"])
    runs = tmp_path / "runs"
    process = started(path, runs)
    jobs = stopped(process, lambda: any(p.stat().st_size for p in runs.glob("*/metrics.jsonl")), signal.SIGINT)
    assert len(jobs) == 1
    (checkpoint,) = runs.glob("*/checkpoints/step-*")
    step = int(checkpoint.name[5:])
    assert 0 < step < 300
    (log,) = (runs / ".jobs").glob("*.log")
    assert "Traceback" not in log.read_text("utf-8")
    posx("sweep", path, "--runs-dir", runs)
    assert [p.name for p in runs.glob("*/checkpoints/*")] == ["step-000300"]
    assert f"Resuming {log.stem} after step {step}" in log.read_text("utf-8")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_sigterm_ends_all_jobs(text: Path, tmp_path: Path) -> None:
    """Also those that have only begun to start."""
    path = sweep_file(tmp_path / "s.yaml", text, schemes=["nope"], more=["train.steps=1000000"])
    process = started(path, tmp_path / "runs")
    assert len(stopped(process, lambda: len(children(process.pid)) == 2, signal.SIGTERM)) == 2


def test_a_cell_that_cannot_be_is_a_dash_and_not_a_failed_job(text: Path, tmp_path: Path) -> None:
    """Learned positions with no length that they reach: exit 0, a dash, and nothing to do again."""
    path = sweep_file(tmp_path / "s.yaml", text, schemes=["learned"], lengths=["2x"])
    first = posx("sweep", path, "--runs-dir", tmp_path / "runs")
    assert "learned positions end at" in first.stdout
    again = posx("sweep", path, "--runs-dir", tmp_path / "runs")
    assert "2 jobs, 0 to do" in " ".join(again.stderr.split())
