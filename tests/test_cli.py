"""The command line: what is printed where, exit codes, and that a mistake leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch
import yaml
from typer.testing import CliRunner

from data_helpers import child_environment, corpus_of, python, sentence, trained, write_jsonl
from helpers import posx
from posx.cli.app import app
from posx.config.schema import RunConfig
from posx.models.build import compose_run
from posx.runs.directory import create
from posx.training.loop import train
from posx.utils.console import Display

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
    "train.dtype=float32",
    "train.device=cpu",
    "train.compile=off",
    "train.threads=1",
]


def refused(*arguments: object) -> str:
    """The error of a command: exit code 2, nothing on standard output, a sentence and a way out."""
    result = posx(*arguments, code=2)
    assert result.stdout == ""
    message = result.stderr.partition("Error: ")[2]
    lines = [line for line in message.splitlines() if line.strip()]
    assert len(lines) in (1, 2), result.stderr
    assert "Traceback" not in result.stderr
    return " ".join(lines)


def tree(folder: Path) -> dict[str, int]:
    """Every file below, with the time of its last change."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 documents of about 200 tokens: enough for targets at 16x of a context of 8."""
    return write_jsonl(tmp_path_factory.mktemp("text") / "a.jsonl", [sentence(120, n) for n in range(24)])


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "there"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def tiny(text: Path) -> list[str]:
    """Overrides of a run that takes a fraction of a second."""
    return [*TINY, f"data.path={text}"]


@pytest.fixture(scope="module")
def runs(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs directory with ``learned`` (older) and ``rope`` (newer), trained but not evaluated."""
    folder = tmp_path_factory.mktemp("runs") / "runs"
    for scheme in ("learned", "rope"):
        posx("train", *TINY, f"data.path={text}", "--scheme", scheme, "--name", scheme, "--runs-dir", folder)
    return folder


# ---------------------------------------------------------------- help

HELP = """
import sys
from posx.__main__ import main
commands = "train eval sweep table plot compare report recommend search reproduce config".split()
for command in ["", "--help", "--version", *(f"{c} --help" for c in commands)]:
    sys.argv = ["posx", *command.split()]
    try:
        main()
    except SystemExit as done:
        assert done.code == 0, command
heavy = {"torch", "hydra", "omegaconf", "matplotlib", "numpy", "datasets", "tokenizers", "pyarrow"}
print("IMPORTED", sorted(heavy & {name.split(".")[0] for name in sys.modules}))
"""


def test_help_imports_nothing_heavy() -> None:
    done = python(HELP)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "IMPORTED []"
    assert done.stderr == ""


def test_help_answers_in_half_a_second() -> None:
    """Of processor time, since other work runs on the machine."""

    def used() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "posx", "--help"], capture_output=True, check=True, env=child_environment()
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(used() for _ in range(3)) < 0.5


def test_posx_alone_says_what_to_do_first(there: Path) -> None:
    result = posx()
    first = result.stdout.index("posx sweep quick")
    assert first < result.stdout.index("posx train")
    assert "posx COMMAND --help" in result.stdout
    assert list(there.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "eval",
        "sweep",
        "table",
        "plot",
        "compare",
        "report",
        "recommend",
        "search",
        "reproduce",
        "schemes",
        "show",
        "extensions",
        "config",
        "doctor",
    ],
)
def test_every_command_explains_itself(command: str) -> None:
    assert f"posx {command}" in posx(command, "--help").stdout
    assert command in posx("--help").stdout


def test_an_unknown_command_says_did_you_mean() -> None:
    assert "Did you mean 'train'" in refused("trian")


def test_an_unknown_flag_says_did_you_mean() -> None:
    assert "--scheme" in refused("train", "--shceme", "rope")


# ---------------------------------------------------------------- from a text to a plot


def test_from_a_text_to_a_plot(there: Path, tiny: list[str]) -> None:
    result = posx("train", "--scheme", "rope", "--seed", 3, *tiny)
    assert result.stdout == ""
    (run,) = (there / "runs").iterdir()
    assert run.name == "rope-tiny-8-seed3"
    assert f"Next: posx eval {run.name}" in result.stderr
    stored = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    assert (stored["train"]["seed"], stored["scheme"]["name"], stored["train"]["steps"]) == (3, "rope", 3)
    assert sorted(p.name for p in (run / "checkpoints" / "step-000003").iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    assert (run / "tokenizer.json").is_file()
    meta = json.loads((run / "meta.json").read_text("utf-8"))
    assert meta["lineage"] == {"base_context": 8, "train_context": 8, "train_extension": "none", "start": None}

    result = posx("eval", "--extension", "none", "--extension", "pi")
    assert f"The newest finished run is {run.name}." in result.stderr
    assert "Next: posx table" in result.stderr
    records = [json.loads(p.read_text("utf-8")) for p in (run / "eval").glob("*.json")]
    assert {(r["extension"], r["length"]) for r in records} == {(e, n) for e in ("none", "pi") for n in (8, 16, 32)}
    assert len({r["targets_sha256"] for r in records}) == 1
    assert all(r["status"] == "ok" and r["seed"] == 3 and r["stride"] == 1 for r in records)

    posx("table", "-o", "t.md")
    lines = [line for line in (there / "t.md").read_text("utf-8").splitlines() if line.startswith("| rope")]
    assert [line.split(" | ")[1] for line in lines] == ["none", "pi"]
    cells = json.loads(posx("table", "--format", "json").stdout)
    by_cell = {(c["extension"], c["length"]): c["nats_per_token"] for c in cells}
    assert by_cell == {(r["extension"], r["length"]): pytest.approx(r["nats"] / r["n_targets"]) for r in records}

    result = posx("plot")
    written = [Path(line) for line in result.stdout.splitlines()]
    assert written == [Path("runs/perplexity.png"), Path("runs/perplexity.svg")]
    assert written[0].read_bytes()[:4] == b"\x89PNG"
    assert "trained at 8" in written[1].read_text("utf-8")


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
    assert "The newest finished run is rope." in done.stderr
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


# ---------------------------------------------------------------- learned, past its table


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


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scheme", "rop"], "Did you mean rope"),
        (["data=wikitxt103"], "Did you mean wikitext103"),
        (["model=tinny"], "Did you mean tiny"),
        (["--scheme", "rope", "scheme=alibi"], "contradict"),
        (["--seed", "1", "train.seed=2"], "contradict"),
        (["train.stepz=3"], "Did you mean train.steps"),
        (["+train.stepz=3"], "Did you mean train.steps"),
        (["train.steps=ten"], "a whole number"),
        (["train.context=0"], "at least 2"),
        (["train.context=1"], "at least 2"),
        (["model.n_heads=3"], "does not divide"),
        (["model.head_dim=3"], "rope rotates pairs"),
        (["model.n_heads=16"], "rope rotates pairs"),
        (["tokenizer.vocab_size=100"], "at least 256"),
        (["eval.stride=2"], "posx eval"),
        (["rope"], "is not an override"),
        (["data.path=missing.txt"], "missing.txt"),
        (["data.path=empty.txt"], "empty.txt is empty"),
        (["data.path=latin.txt"], "byte 300 is 0xff"),
        (["data.path=short.txt"], "Give more text"),
        (["data.path=folder"], "no .txt"),
        (["data.path=broken.jsonl"], "line 1 is not JSON"),
        (["train.context=4000", "train.batch_tokens=4000"], "longest training document"),
        (["--name", "a/b"], "cannot be the name"),
        (["--name", "notarun"], "is not a run"),
        (["--name", "afile"], "afile"),
        (["--config-dir", "nowhere"], "not a directory"),
        (["--seed", "one"], "--seed"),
        (["--seed", "99999999999999999999"], "train.seed"),
        (["--runs-dir", "empty.txt"], "--runs-dir"),
        (["scheme._target_=os.system"], "--trust"),
    ],
)
def test_a_mistake_in_training_leaves_nothing(there: Path, tiny: list[str], arguments: list[str], says: str) -> None:
    Path("empty.txt").touch()
    Path("latin.txt").write_bytes(b"hello " * 50 + b"\xff" + b" there" * 50)
    Path("short.txt").write_text("too short")
    Path("broken.jsonl").write_text("{")
    Path("folder").mkdir()
    Path("runs/notarun").mkdir(parents=True)
    Path("runs/notarun/a").touch()
    Path("runs/afile").touch()
    before, folders = tree(there), sorted(p.name for p in Path("runs").iterdir())
    given = {a.partition("=")[0] for a in arguments}
    assert says in refused("train", *[o for o in tiny if o.partition("=")[0] not in given], *arguments)
    assert tree(there) == before
    assert sorted(p.name for p in Path("runs").iterdir()) == folders


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--length", "abc"], "is not a length"),
        (["--length", "0"], "at least 1"),
        (["--length", "0.5x"], "at least 1"),
        (["--length", "1.3x"], "Give tokens: 10 or 11"),
        (["--length", "-3"], "-3"),
        (["--length", "3000"], "It holds targets for a context of up to"),
        (["--length", "9999999999999999999999"], "longer than any document"),
        (["--extension", "pii"], "Did you mean pi"),
        (["--extension", "interpolate"], "does not fit rope"),
        (["--extension", "pi+ntk"], "one at a time"),
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
        (["notarun"], "is not a run of posx"),
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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["table"], "posx sweep quick"),
        (["plot"], "posx sweep quick"),
        (["table", "nope"], "no run 'nope'"),
        (["plot", "nope"], "no run 'nope'"),
        (["table", "--format", "xml"], "csv, json, latex, md, rich"),
        (["table", "--format", "markdown"], "md"),
        (["eval"], "posx train --scheme rope"),
        (["eval", "nope"], "none yet"),
        (["sweep"], "Missing argument"),
        (["sweep", "quik"], "Did you mean quick"),
        (["config", "--scheme", "rop"], "Did you mean rope"),
        (["config", "train.stepz=1"], "train.steps"),
        (["config", "eval.strid=1"], "eval.stride"),
        (["schemes", "--config-dir", "nowhere"], "not a directory"),
    ],
)
def test_a_mistake_elsewhere_is_a_sentence(there: Path, arguments: list[str], says: str) -> None:
    assert says in refused(*arguments)
    assert list(there.iterdir()) == []


def test_a_run_whose_config_was_damaged_is_a_sentence(runs: Path, there: Path) -> None:
    Path("runs/bad").mkdir(parents=True)
    Path("runs/bad/config.yaml").write_text("model: [")
    assert "bad/config.yaml" in refused("eval", "bad")


def test_a_path_without_data_text_is_not_silently_another_corpus(there: Path, text: Path) -> None:
    """``posx train data.path=mine.txt`` would train on the embedded corpus, and nothing would say so."""
    result = CliRunner().invoke(app, ["config", f"data.path={text}"])
    assert result.exit_code == 2 or yaml.safe_load(result.stdout.split("\neval:")[0])["data"]["source"] == "text"


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


def test_a_plot_goes_where_it_was_sent(runs: Path, there: Path) -> None:
    posx("eval", "rope", "--length", "1x", "--runs-dir", runs)
    assert posx("plot", "-o", "out/my.png", "--runs-dir", runs).stdout.splitlines() == ["out/my.png", "out/my.svg"]
    assert sorted(p.name for p in Path("out").iterdir()) == ["my.png", "my.svg"]


# ---------------------------------------------------------------- names, resuming


def test_a_name_in_use_is_refused_and_kept(there: Path, tiny: list[str]) -> None:
    posx("train", *tiny, "--name", "a")
    before = tree(there)
    assert "--resume" in refused("train", *tiny, "--name", "a")
    assert tree(there) == before


def test_without_a_name_a_second_run_gets_its_own(there: Path, tiny: list[str]) -> None:
    for _ in range(2):
        posx("train", *tiny)
    assert sorted(p.name for p in (there / "runs").iterdir()) == ["rope-tiny-8-seed0", "rope-tiny-8-seed0-2"]


def test_resuming_a_finished_run_does_nothing(there: Path, tiny: list[str]) -> None:
    posx("train", *tiny, "--name", "a")
    before = tree(there)
    result = posx("train", *tiny, "--name", "a", "--resume")
    assert "is finished: step 3 of 3" in result.stderr
    assert tree(there) == before


def test_resuming_nothing_starts_afresh(there: Path, tiny: list[str]) -> None:
    posx("train", *tiny, "--name", "a", "--resume")
    assert (there / "runs" / "a" / "checkpoints" / "step-000003").is_dir()


def test_resuming_with_other_settings_is_refused(there: Path, tiny: list[str]) -> None:
    posx("train", *tiny, "--name", "a")
    before = tree(there)
    message = refused("train", *tiny, "--name", "a", "--resume", "optim.lr=0.5", "train.steps=4")
    assert "optim.lr was 0.003, now 0.5" in message
    assert "train.steps was 3, now 4" in message
    assert tree(there) == before
    posx("train", *tiny, "--name", "a", "--resume", "train.log_every=1")  # changes no result


def test_an_estimate_writes_no_run(there: Path, tiny: list[str]) -> None:
    result = posx("train", *tiny, "--estimate", "train.steps=1000")
    assert list(there.iterdir()) == []
    for word in ("time", "memory", "epochs", "64,000"):
        assert word in result.stdout
    assert "Next:" in result.stdout + result.stderr


class Killed(BaseException):
    """The machine went away."""


class KillAt(Display):
    def update(self, done: int, note: str = "") -> None:
        if done == 4:
            raise Killed


def killed(folder: Path, config: RunConfig, name: str) -> None:
    """A run that ended in its fifth step, with a checkpoint of its third."""
    run, corpus = create(folder, name, config, False), corpus_of(config)
    with pytest.raises(Killed):
        train(run, corpus, KillAt(quiet=True))


def test_the_numbers_of_an_unfinished_run_do_not_outlive_it(there: Path, tiny: list[str]) -> None:
    """Evaluated at step 3, resumed, evaluated again: the table shows the finished weights, and only them."""
    overrides = [*tiny, "train.steps=40", "train.checkpoint_every=3", "optim.lr=0.05"]
    killed(there / "runs", compose_run(overrides), "a")
    early = json.loads(posx("eval", "a", "--json").stdout)
    assert {note for r in early for note in r["notes"]} == {"step 3 of 40"}
    posx("train", *overrides, "--name", "a", "--resume")
    final = json.loads(posx("eval", "a", "--json").stdout)
    cells = json.loads(posx("table", "--format", "json").stdout)
    assert {c["length"]: c["nats_per_token"] for c in cells} == {
        r["length"]: pytest.approx(r["nats"] / r["n_targets"]) for r in final
    }
    assert next(c for c in cells if c["length"] == 8)["delta"] == 0
    assert "step 3 of 40" not in posx("table", "--format", "md").stdout


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optim.lr=1e30"], "diverged"),
        (["optim.lr=1000"], None),
        (["optim.lr=1e30", "train.steps=1"], "diverged"),
    ],
)
def test_training_that_diverges_says_so_and_crashes_nothing(
    there: Path, tiny: list[str], overrides: list[str], words: str | None
) -> None:
    """A loss of NaN, one too large for exp, and one that is only found by the last validation."""
    result = CliRunner().invoke(app, ["train", *tiny, *overrides, "--name", "a"])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.stderr
    if words is not None:
        assert result.exit_code == 1
        assert words in result.stderr
        assert "optim.lr" in result.stderr
        assert "finished run" in refused("eval")  # it counts as no result


# ---------------------------------------------------------------- lists


def test_too_little_memory_is_a_sentence(there: Path) -> None:
    """512 TB, which no machine has."""
    shown = posx("train", "--scheme", "cope", "scheme.p_max=1000000000000", "--estimate", code=2).stderr
    assert "Not enough memory" in shown
    assert "Traceback" not in shown


def test_the_schemes_in_json(there: Path) -> None:
    rows = {row["name"]: row for row in json.loads(posx("schemes", "--json").stdout)}
    assert rows.keys() >= {"nope", "sinusoidal", "learned", "rope", "alibi", "t5"}
    assert rows["learned"]["parameters"] == 64 * 128
    assert [rows[name]["parameters"] for name in ("nope", "sinusoidal", "rope", "alibi")] == [0, 0, 0, 0]
    assert rows["t5"]["parameters"] == 32 * 4
    assert rows["rope"]["extensions"] == [
        "abf", "by-parts", "dual-chunk", "dynamic-ntk", "leaky-rerope", "llama3", "lm-infinite", "log-n", "longrope",
        "ntk", "pi", "rerope", "resonance", "self-extend", "sinks", "temperature", "window", "yarn",
    ]  # fmt: skip
    assert rows["learned"]["extensions"] == ["interpolate", "lm-infinite", "log-n", "sinks", "temperature", "window"]
    assert all(row["formula"] for row in rows.values())
    assert rows["alibi"]["cost"] == "one addition for each logit"
    assert rows["cable"]["cost"] == "as forgetting"
    assert rows["sinusoidal-concat"]["cost"] == "one table [T, width] a forward"
    assert rows["shape"]["cost"] == "the inner scheme's; a learned table has K + L rows"
    assert all(len(row["cost"]) > 3 and "\n" not in row["cost"] for row in rows.values())


def test_the_extensions_in_json(there: Path) -> None:
    rows = {row["name"]: row for row in json.loads(posx("extensions", "--json").stdout)}
    assert rows.keys() >= {"none", "pi", "ntk", "interpolate", "window"}
    assert "rope" in rows["pi"]["schemes"]
    assert "alibi" not in rows["pi"]["schemes"]
    assert all(row["formula"] for row in rows.values())


@pytest.mark.parametrize("command", ["schemes", "extensions"])
def test_a_list_for_people_names_them_all(command: str) -> None:
    names = [row["name"] for row in json.loads(posx(command, "--json").stdout)]
    text = posx(command).stdout
    assert [name for name in names if name not in text] == []


def test_the_resolved_config_is_yaml_with_the_overrides(there: Path) -> None:
    shown = yaml.safe_load(posx("config", "--scheme", "learned", "train.steps=7", "eval.max_targets=99").stdout)
    assert shown["scheme"] == {
        "name": "learned",
        "_target_": "posx.schemes.learned.Learned",
        "combine": "add",
        "width": None,
        "scale_tokens": False,
    }
    assert (shown["train"]["steps"], shown["eval"]["max_targets"], shown["model"]["d_model"]) == (7, 99, 128)


def test_doctor_speaks_of_this_machine(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posx.cli.doctor.hub_reachable", lambda seconds: False)
    rows = json.loads(posx("doctor", "--json").stdout)
    assert torch.__version__ in json.dumps(rows)
    assert os.environ["POSX_CACHE"] in json.dumps(rows)
    text = posx("doctor").stdout.lower()
    for word in ("bf16", "compiler", "thread", "gpu", "cache", "hub"):
        assert word in text


# ---------------------------------------------------------------- what comes next, colour


@pytest.mark.parametrize(
    "command",
    [["table"], ["plot"], ["table", "-o", "t.md"], ["extensions"], ["schemes"]],
    ids=" ".join,
)
def test_every_finished_command_says_what_comes_next(runs: Path, there: Path, command: list[str]) -> None:
    posx("eval", "rope", "--length", "1x", "--runs-dir", runs)
    flag = [] if command[0] in ("extensions", "schemes") else ["--runs-dir", runs]
    result = posx(*command, *flag)
    assert "posx " in (result.stdout + result.stderr).partition("Next: ")[2]


def test_the_hint_after_an_evaluation_works_as_it_stands(runs: Path, there: Path) -> None:
    """Runs that lie elsewhere: each command of the hint must find them."""
    hint = posx("eval", "rope", "--length", "1x", "--runs-dir", runs).stderr.partition("Next: ")[2].splitlines()[0]
    for part in hint.split(", "):
        arguments = part.split()
        assert arguments[0] == "posx"
        posx(*arguments[1:])


def on_a_terminal(*arguments: object, **environment: str) -> str:
    """What a command writes where both outputs are a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    environment = {"TERM": "xterm-256color", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "posx", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=child_environment(**environment),
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    process.wait(timeout=30)
    return b"".join(parts).decode()


def test_a_terminal_gets_colour_unless_no_color_is_set(there: Path) -> None:
    """Both on an error, which is cheap."""
    assert "\x1b[" in on_a_terminal("table")
    plain = on_a_terminal("table", NO_COLOR="1")
    assert "There are no evaluations" in plain
    assert "\x1b" not in plain


LIVE = """
from posx.utils.console import Display
with Display() as shown:
    shown.start("task", 3)
    for step in range(4):
        shown.update(step, "loss 5.0")
    shown.say("said")
"""


def test_no_color_turns_the_live_display_off(there: Path) -> None:
    Path("live.py").write_text(LIVE)
    ours, theirs = pty.openpty()
    environment = child_environment(NO_COLOR="1", TERM="xterm-256color")
    done = subprocess.run([sys.executable, "live.py"], stdout=theirs, stderr=theirs, env=environment, check=False)
    os.close(theirs)
    os.set_blocking(ours, False)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "said" in text
    assert "\x1b" not in text


def test_a_pipe_gets_no_escape_codes(runs: Path) -> None:
    posx("eval", "rope", "--length", "1x", "--length", "2x", "--runs-dir", runs)
    done = subprocess.run(
        [sys.executable, "-m", "posx", "table", "--runs-dir", str(runs)],
        capture_output=True,
        text=True,
        check=True,
        env=child_environment(TERM="xterm-256color"),
    )
    assert "rope" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_a_reader_that_leaves_early_is_no_traceback(runs: Path) -> None:
    """posx table --format csv | head -1"""
    posx("eval", "rope", "--length", "1x", "--runs-dir", runs)
    command = f"{sys.executable} -m posx table --format json --runs-dir {runs} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=child_environment(), check=False)
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------- signals


def waiting_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


@pytest.fixture
def training(there: Path, tiny: list[str]) -> Iterator[Any]:
    """Start a training in a process of its own; it is at work when this returns."""
    started: list[subprocess.Popen[str]] = []

    def start(*overrides: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "posx", "train", *tiny, "--name", "a", "train.log_every=1", *overrides],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=child_environment(),
        )
        started.append(process)
        log = there / "runs" / "a" / "metrics.jsonl"
        waiting_for(lambda: process.poll() is not None or (log.is_file() and log.stat().st_size > 0))
        assert process.poll() is None, process.communicate()[1]
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_ctrl_c_saves_and_resume_finishes(there: Path, tiny: list[str], training: Any) -> None:
    process = training("train.steps=300")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert "--resume --name a" in err
    (checkpoint,) = (there / "runs" / "a" / "checkpoints").iterdir()
    step = int(checkpoint.name.removeprefix("step-"))
    assert 0 < step < 300
    assert "no finished run" in refused("eval")
    result = posx("train", *tiny, "--name", "a", "train.steps=300", "--resume", "train.log_every=100")
    assert f"after step {step}" in result.stderr
    assert [p.name for p in (there / "runs" / "a" / "checkpoints").iterdir()] == ["step-000300"]


def test_sigterm_saves_and_meanwhile_a_second_process_is_refused(there: Path, tiny: list[str], training: Any) -> None:
    process = training("train.steps=1000000")
    message = refused("train", *tiny, "--name", "a", "train.steps=1000000", "--resume")
    assert "Another process is working on" in message
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert "Traceback" not in err
    assert len(list((there / "runs" / "a" / "checkpoints").glob("step-*/manifest.json"))) == 1


def test_a_lock_is_free_again_after_a_kill(there: Path, tiny: list[str]) -> None:
    """The lock is the kernel's, not a file's existence: a stale .lock stops nobody."""
    posx("train", *tiny, "--name", "a")
    with (there / "runs" / "a" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    assert (there / "runs" / "a" / ".lock").exists()
    posx("train", *tiny, "--name", "a", "--resume")


# ---------------------------------------------------------------- foreign schemes

MINE = """
from posx.schemes.alibi import Alibi

class Mine(Alibi):
    formula = "mine"
"""


@pytest.fixture
def own_scheme(there: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command that trains a scheme of a package outside posx, under the name ``m``."""
    name = f"minepos{random.randrange(10**9)}"
    (there / "site" / name).mkdir(parents=True)
    (there / "site" / name / "__init__.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(there / "site"))
    (there / "own" / "scheme").mkdir(parents=True)
    (there / "own" / "scheme" / "mine.yaml").write_text(f"_target_: {name}.Mine\n")
    return ["train", *tiny, "--scheme", "mine", "--config-dir", "own", "--name", "m"]


def test_a_scheme_of_ones_own_goes_all_the_way(there: Path, own_scheme: list[str]) -> None:
    assert "--trust" in refused(*own_scheme)
    assert not (there / "runs").exists()
    posx(*own_scheme, "--trust")
    assert "--trust" in refused("eval", "m")
    records = json.loads(posx("eval", "m", "--trust", "--length", "1x", "--json").stdout)
    assert [r["scheme"] for r in records] == ["mine"]
    assert "mine" in posx("table").stdout
    assert "mine" in [r["name"] for r in json.loads(posx("schemes", "--json", "--config-dir", "own", "--trust").stdout)]


def test_a_scheme_of_ones_own_is_resumed(there: Path, own_scheme: list[str]) -> None:
    posx(*own_scheme, "--trust")
    assert "is finished" in posx(*own_scheme, "--trust", "--resume").stderr


def test_the_helpers_and_the_command_agree(there: Path, tiny: list[str]) -> None:
    """The run of a script and the run of the command are one: same weights, bit for bit."""
    posx("train", *tiny, "--name", "a")
    run = trained(there / "runs", "b", compose_run(tiny))
    one, other = (there / "runs" / n / "checkpoints" / "step-000003" / "model.safetensors" for n in ("a", run.name))
    assert one.read_bytes() == other.read_bytes()


def test_clicks_own_errors_have_the_same_exit_code() -> None:
    assert click.UsageError.exit_code == 2
    assert "--scheme" in refused("train", "--scheme")
