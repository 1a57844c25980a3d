"""posx bench: real processes at a tiny shape, known numbers for what is computed from them. Nothing is timed."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from rich.console import Console

from data_helpers import child_environment, python, sentence, write_jsonl
from helpers import posx
from posx.bench import growth as scaling
from posx.bench import schemes as bench
from posx.bench import schemes_page as costs
from posx.bench import synthetic_text as pseudotext
from posx.bench.schemes import Figures, Found
from posx.cli.bench import numbers
from posx.config.catalog import PACKAGED
from posx.errors import PosxError
from posx.reporting.formats import markdown, show_page
from posx.utils.console import Display
from posx.utils.format import figure

CONTEXT = 8
OWN = f"""
import os, signal, time
from pathlib import Path
import torch
from posx.schemes.nope import Nope

class Dies(Nope):
    def prepare(self, positions, extension):
        if len(positions) == {CONTEXT}:
            os.kill(os.getpid(), signal.SIGKILL)

class Stops(Nope):
    def prepare(self, positions, extension):
        raise SystemExit("no more of this")

class Breaks(Nope):
    def prepare(self, positions, extension):
        if len(positions) > {CONTEXT}:
            raise ValueError("too long for me")

class Heavy(Nope):
    # Prints, and needs 200 MB: only past the training context.
    def prepare(self, positions, extension):
        print("noise")
        if len(positions) > {CONTEXT}:
            torch.ones(50_000_000)

class Sleeps(Nope):
    def prepare(self, positions, extension):
        Path(os.environ["ASLEEP"]).touch()
        time.sleep(600)
"""


def tiny(text: Path) -> list[str]:
    return [
        "data=text",
        f"data.path={text}",
        "model=tiny",
        "model.n_layers=1",
        "model.d_model=16",
        "model.n_heads=2",
        "tokenizer.vocab_size=300",
        f"train.context={CONTEXT}",
        "train.batch_tokens=64",
        "train.dtype=float32",
        "train.device=cpu",
        "train.threads=1",
    ]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 documents of about 200 tokens."""
    return write_jsonl(tmp_path_factory.mktemp("text") / "a.jsonl", [sentence(120, n) for n in range(30)])


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of schemes that make trouble: for --config-dir, and for Python's path."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "bench_own.py").write_text(OWN, "utf-8")
    (folder / "scheme").mkdir()
    for name in ("Dies", "Stops", "Breaks", "Heavy", "Sleeps"):
        (folder / "scheme" / f"{name.lower()}.yaml").write_text(f"_target_: bench_own.{name}\n", "utf-8")
    return folder


def with_own(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": child_environment()["PYTHONPATH"] + os.pathsep + str(folder)}


@pytest.fixture(scope="module")
def measured(text: Path, own: Path, shared_cache: Path) -> tuple[dict[str, Any], str, list[str]]:
    """One run with schemes of all kinds of trouble: rows by name, the Markdown, the arguments."""
    asked = ["--schemes", "learned,dies,stops,breaks,heavy", "--lengths", "1x,4x", "--rounds", "3", "--burst", "0.01"]
    arguments = [*tiny(text), *asked, "--config-dir", str(own), "--trust"]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(own)
        patch.setenv("PYTHONPATH", with_own(own)["PYTHONPATH"])
        result = posx("bench", *arguments, "--json", "-o", own / "out" / "b.md")
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == ["nope", "learned", "dies", "stops", "breaks", "heavy"]
    return {row["name"]: row for row in rows}, (own / "out" / "b.md").read_text("utf-8"), arguments


def cells(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [row["train"], *row["eval"]]


# ---------------------------------------------------------------- a run


def test_what_works_has_every_figure(measured: Any) -> None:
    rows = measured[0]
    for row in (rows["nope"], rows["heavy"]):
        assert [cell["length"] for cell in row["eval"]] == [CONTEXT, 4 * CONTEXT]
        assert [cell["multiple"] for cell in row["eval"]] == [1, 4]
        for cell in cells(row):
            assert cell["reason"] == ""
            assert len(cell["seconds_a_token"]) == len(cell["ratios"]) == 3
            assert all(seconds > 0 for seconds in cell["seconds_a_token"])
            assert cell["peak_memory_bytes"] > 0
    assert rows["learned"]["parameters"] - rows["nope"]["parameters"] == CONTEXT * 16


def test_figures_are_medians_of_the_rounds_and_of_their_ratios(measured: Any) -> None:
    rows = measured[0]
    for cell, beside in zip(cells(rows["heavy"]), cells(rows["nope"]), strict=True):
        assert cell["tokens_per_second"] == 1 / sorted(cell["seconds_a_token"])[1]
        expected = [a / b for a, b in zip(cell["seconds_a_token"], beside["seconds_a_token"], strict=True)]
        assert cell["ratios"] == expected
        assert cell["ratio"] == sorted(expected)[1]
        assert beside["ratios"] == [1, 1, 1]
    train = rows["heavy"]["train"]
    assert train["step_ms"] == pytest.approx(64 * 1000 / train["tokens_per_second"])


def test_learned_past_its_table_is_a_dash(measured: Any) -> None:
    rows, table, _ = measured
    train, short, long = cells(rows["learned"])
    assert train["reason"] == short["reason"] == ""
    assert "learned positions end at 8" in long["reason"]
    assert long["tokens_per_second"] is long["ratio"] is long["peak_memory_bytes"] is None
    fields = line_of(table, "learned")
    assert [field.startswith("–") for field in fields[1:]] == [False, False, False, True, False, False, True]


@pytest.mark.parametrize(("name", "reason"), [("dies", "killed by SIGKILL"), ("stops", "no more of this")])
def test_a_child_that_is_gone_is_a_row_of_dashes_with_its_reason(measured: Any, name: str, reason: str) -> None:
    """`dies` could evaluate at 4x before it was killed: not even that is shown."""
    rows, table, _ = measured
    for cell in cells(rows[name]):
        assert reason in cell["reason"]
        assert cell["tokens_per_second"] is cell["ratio"] is cell["peak_memory_bytes"] is None
    fields = line_of(table, name)[1:]
    assert all(field == fields[0] for field in fields)
    assert any(fields[0].removeprefix("– ") in line and reason in line for line in table.splitlines())


def test_an_error_at_one_length_leaves_the_other_figures(measured: Any) -> None:
    train, short, long = cells(measured[0]["breaks"])
    assert long["reason"] == "ValueError: too long for me"
    assert train["ratio"] > 0
    assert short["ratio"] > 0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_a_peak_is_that_of_its_work(measured: Any) -> None:
    """200 MB that only the long evaluation holds, and that come first, are not in training's peak."""
    (train, short, long), plain = cells(measured[0]["heavy"]), cells(measured[0]["nope"])
    assert long["peak_memory_bytes"] > 200e6
    assert max(cell["peak_memory_bytes"] for cell in (train, short, *plain)) < 150e6


def line_of(table: str, name: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
    return [field.strip() for field in line.strip("|").split("|")]


def test_markdown_says_the_numbers_of_the_json_and_what_they_hold_for(measured: Any) -> None:
    rows, table, arguments = measured
    heavy = rows["heavy"]
    train, short, long = cells(heavy)
    assert line_of(table, "heavy") == [
        "heavy",
        f"{figure(train['step_ms'], 3)} ×{train['ratio']:.2f}",
        f"{train['tokens_per_second']:,.0f}",
        f"{short['tokens_per_second']:,.0f} ×{short['ratio']:.2f}",
        f"{long['tokens_per_second']:,.0f} ×{long['ratio']:.2f}",
        *(f"{cell['peak_memory_bytes'] / 1e6:,.0f}" for cell in (train, short, long)),
    ]
    head = table.splitlines()[0]
    for said in (
        heavy["setup"]["device"],
        f"torch {torch.__version__}",
        "1 thread;",
        "1 layers, width 16, 2 heads, context 8, vocabulary 300",
        "training in float32, uncompiled, 64 tokens a step",
        "evaluation in float32",
    ):
        assert said in head
    (made,) = [line for line in table.splitlines() if "Made by" in line]
    command = shlex.split(made.split("`")[1])
    assert command[:2] == ["posx", "bench"]
    assert sorted(command[2:]) == sorted(arguments)  # all but --json and -o, which change no number
    assert markdown(costs.page(list(rows.values()))) == table
    assert "over 3 rounds" in table


def shown(rows: list[dict[str, Any]], width: int) -> str:
    """What a terminal of this width gets."""
    out = io.StringIO()
    for page in costs.pages(rows, width):
        show_page(page, Console(file=out, width=width, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_narrow_terminal_gets_every_figure_in_three_tables(measured: Any, width: int) -> None:
    """A line for each scheme in each of them, so that schemes stand beneath and lengths beside each other."""
    rows = measured[0]
    text = shown(list(rows.values()), width)
    tables = text.partition("\n[1] ")[0]
    assert "…" not in text
    for title in ("cost in training", "cost in evaluation, tokens/s", "cost in evaluation, MB"):
        assert title in " ".join(tables.split())  # a title is as narrow as its table
    body = [[field.strip() for field in re.split("[│┃]", line.strip("│┃"))] for line in tables.splitlines()]
    assert max(len(line) for line in tables.splitlines() if "│" in line) <= width
    found = [[fields[1:] for fields in body if fields[0] == name] for name in rows]
    assert [len(lines) for lines in found] == [3] * len(rows)
    table = measured[1]
    for name, (training, rates, memory) in zip(rows, found, strict=True):
        _, step, rate, short, long, *megabytes = line_of(table, name)
        assert training == [step, rate, megabytes[0]]
        assert rates == [short, long]
        assert memory == megabytes[1:]


def test_a_wide_terminal_and_a_file_get_one_table(measured: Any) -> None:
    rows = list(measured[0].values())
    (page,) = costs.pages(rows)
    assert costs.pages(rows, 300) == [page]
    assert page.heads[5:] == ["training, MB", "at 8, MB", "at 32, MB"]


# ---------------------------------------------------------------- what is computed


def found(train: list[float], short: list[float] | None = None, reason: str = "") -> Found:
    work = {bench.TRAINING: Figures(train, 5 * 10**6), CONTEXT: Figures(short or [], 10**6)}
    if short is None:
        work[CONTEXT] = Figures(reason="too far")
    return Found(work, {"parameters": 1, "threads": 1, "dtype": "x", "compiled": False, "vocab_size": 1}, reason)


def rows_of(monkeypatch: pytest.MonkeyPatch, text: Path, groups: dict[str, Found]) -> list[dict[str, Any]]:
    """The rows for figures that were not measured."""
    plan = bench.make_plan(tiny(text), [name for name in groups if name != "nope"], ["1x"])
    monkeypatch.setattr(bench, "_measure_group", lambda plan, names, *rest: {name: groups[name] for name in names})
    return bench.measure(plan, 3, 0.0, Display(quiet=True), "posx bench")


def test_a_ratio_is_the_median_of_the_rounds_ratios(monkeypatch: pytest.MonkeyPatch, text: Path) -> None:
    """The second round was slow for all: the ratio of the medians would be 1.5."""
    _, rope = rows_of(
        monkeypatch,
        text,
        {"nope": found([1e-3, 10e-3, 2e-3], [1e-3] * 3), "rope": found([2e-3, 20e-3, 3e-3], [4e-3, 1e-3, 3e-3])},
    )
    assert rope["train"]["ratios"] == pytest.approx([2, 2, 1.5])
    assert rope["train"]["ratio"] == pytest.approx(2)
    assert rope["train"]["tokens_per_second"] == pytest.approx(1 / 3e-3)
    assert rope["train"]["step_ms"] == pytest.approx(64 * 3)
    assert rope["eval"][0]["ratio"] == pytest.approx(3)
    (line,) = [note for note in costs.page([rope]).notes if "×" in note]
    assert "from the least to the greatest 62%, in the median cell" in line  # of 0.5 / 2 and 3 / 3


def test_without_the_baseline_there_are_rates_and_no_ratios(monkeypatch: pytest.MonkeyPatch, text: Path) -> None:
    nope, rope = rows_of(
        monkeypatch, text, {"nope": found([1.0], [1.0], "it died"), "rope": found([2.0, 3.0, 4.0], [1.0])}
    )
    assert nope["train"]["tokens_per_second"] is None
    assert rope["train"]["ratio"] is None
    table = markdown(costs.page([nope, rope]))
    assert line_of(table, "rope") == ["rope", "192,000 –", "0", "1 –", "5", "1"]
    assert line_of(table, "nope") == ["nope", *["– [1]"] * 5]
    assert "- [1] it died" in table


def test_where_nothing_can_be_measured_the_command_fails(monkeypatch: pytest.MonkeyPatch, text: Path) -> None:
    with pytest.raises(PosxError, match="no luck") as caught:
        rows_of(monkeypatch, text, {"nope": found([], [], "no luck"), "rope": found([], [], "nor here")})
    assert caught.value.code == 1


def test_each_group_is_measured_beside_a_baseline_of_its_own(monkeypatch: pytest.MonkeyPatch, text: Path) -> None:
    monkeypatch.setattr(bench, "GROUP", 1)
    seen: list[list[str]] = []

    def group(plan: bench.Plan, names: list[str], *rest: Any) -> dict[str, Found]:
        seen.append(names)
        base = 1.0 * len(seen)  # the machine is half as fast for the second group
        return {"nope": found([base], [base]), names[1]: found([3 * base], [3 * base])}

    monkeypatch.setattr(bench, "_measure_group", group)
    plan = bench.make_plan(tiny(text), ["rope", "alibi"], ["1x"])
    nope, rope, alibi = bench.measure(plan, 1, 0.0, Display(quiet=True), "")
    assert seen == [["nope", "rope"], ["nope", "alibi"]]
    assert nope["train"]["seconds_a_token"] == [1.0]
    assert rope["train"]["ratio"] == alibi["train"]["ratio"] == 3


class Obedient:
    """A child that notes what it is asked, and says that it took a second for 32 tokens, three steps in all."""

    asked: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    about: ClassVar[dict[str, Any]] = {"parameters": 1}

    def __init__(self, arguments: list[str], spec: dict[str, Any]):
        self.name, self.tokens = arguments[-1], 3 * spec["config"]["train"]["batch_tokens"]

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((self.name, request))
        return {"seconds": self.tokens / 32, "tokens": self.tokens, "runs": 3, "peak_memory_bytes": 7}

    def end(self) -> None:
        pass


@pytest.fixture
def obedient(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What children are asked."""
    for module in (bench, scaling):
        monkeypatch.setattr(module, "Child", Obedient)
    monkeypatch.setattr(Obedient, "asked", [])
    return Obedient.asked


def test_all_sides_alternate_and_memory_comes_first(text: Path, obedient: list[tuple[str, dict[str, Any]]]) -> None:
    """The longest evaluation first of all: no optimizer holds memory yet. Then rounds, there and back."""
    plan = bench.make_plan(tiny(text), ["rope", "alibi"], ["1x", "4x"])
    rows = bench.measure(plan, 2, 0.5, Display(quiet=True), "")
    looks = [(name, request["length"]) for name, request in obedient if request["memory"]]
    assert looks == [(name, kind) for name in ("nope", "rope", "alibi") for kind in (32, 8, None) for _ in range(3)]
    bursts = [(name, request["length"]) for name, request in obedient[len(looks) :]]
    there = [(name, length) for length in (None, 8, 32) for name in ("nope", "rope", "alibi")]
    back = [(name, length) for length in (None, 8, 32) for name in ("alibi", "rope", "nope")]
    assert bursts == there + back
    assert all(request["seconds"] == 0.5 and not request["memory"] for _, request in obedient[len(looks) :])
    assert rows[1]["train"]["tokens_per_second"] == 32
    assert rows[1]["train"]["step_ms"] == 2000


def test_scaling_counts_seconds_of_as_many_tokens_at_every_context(
    text: Path, obedient: list[tuple[str, dict[str, Any]]]
) -> None:
    """A step of 128 tokens is longer than one of 64, which says nothing about the context."""
    plan = scaling.make_plan(tiny(text), [64, 128], [], [])
    data = scaling.measure(plan, 2, 0.5, Display(quiet=True), "")
    assert [point["seconds"] for point in data["points"]] == [[2.0, 2.0], [2.0, 2.0]]
    assert [point["peak_memory_bytes"] for point in data["points"]] == [[7, 7], [7, 7]]
    assert [name for name, request in obedient if request.get("memory")] == ["context-64", "context-128"] * 2


def test_by_default_every_scheme_at_the_reference_shape() -> None:
    plan = bench.make_plan([])
    assert sorted(plan.configs) == sorted(PACKAGED.options("scheme"))
    assert plan.lengths == (256, 1024, 4096)
    assert plan.eval.dtype == "float32"
    model, train = plan.baseline.model, plan.baseline.train
    assert (model.n_layers, model.d_model, model.n_heads) == (4, 256, 4)
    assert (train.context, train.batch_tokens) == (256, 4096)
    assert plan.baseline.tokenizer.vocab_size == 4096
    assert plan.baseline.data.name == "sotu"


def test_overrides_win_over_the_reference() -> None:
    plan = bench.make_plan(["model=tiny", "train.batch_tokens=128", "eval.lengths=[1x,3x]", "eval.dtype=bfloat16"])
    assert plan.baseline.model.d_model == 128
    assert plan.baseline.train.batch_tokens == 128
    assert plan.lengths == (64, 192)
    assert plan.eval.dtype == "bfloat16"


def test_a_scheme_that_refuses_the_shape_is_a_dash_with_its_sentence() -> None:
    """At a context of 16 T5's 32 buckets would give one to each distance."""
    plan = bench.make_plan(["model=tiny", "train.context=16", "train.batch_tokens=64"], ["t5"])
    with pytest.raises(bench.Refused, match="bucket"):
        plan.spec("t5")


# ---------------------------------------------------------------- mistakes


def refused(*arguments: object) -> str:
    """Exit code 2, nothing on standard output, a sentence and a way out."""
    result = posx("bench", *arguments, code=2)
    assert result.stdout == ""
    lines = [line for line in result.stderr.partition("Error: ")[2].splitlines() if line.strip()]
    assert len(lines) == 2, result.stderr
    return " ".join(lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--schemes", "rpoe"], "Did you mean rope"),
        (["--schemes", ","], "--schemes names nothing"),
        (["--schemes", ""], "--schemes names nothing"),
        (["--lengths", "4y"], "'4y' is not a length"),
        (["--lengths", "0.5x"], "A multiple is at least 1"),
        (["--lengths", " "], "--lengths names nothing"),
        (["--lengths", "1x", "eval.lengths=[2x]"], "eval.lengths"),
        (["--lengths", "1000x"], "use lengths up to"),
        (["--burst", "nan"], "--burst takes seconds"),
        (["--burst", "1e9"], "--burst takes seconds"),
        (["--burst", "-1"], "--burst takes seconds"),
        (["scheme=rope"], "Use --schemes"),
        (["scheme.base=10"], "Use --schemes"),
        (["eval.extensions=[pi]"], "without one"),
        (["model.n_layer=3"], "model.n_layers"),
        (["rope"], "'rope' is not an override"),
        (["train.context=100000", "train.batch_tokens=100000"], "the longest training document"),
        (["--contexts", "8"], "Add --scaling"),
        (["--from", "scaling.json"], "Add --scaling"),
        (["--scaling", "--schemes", "rope"], "scheme=NAME"),
        (["--scaling", "--contexts", "8,x"], "whole numbers"),
        (["--scaling", "--contexts", "0"], "whole numbers"),
        (["--scaling", "--widths", ","], "--widths names nothing"),
        (["--scaling", "--widths", "100"], "Take 64 or 128"),
        (["--scaling", "--widths", "63"], "Take 64."),
        (["--scaling", "--contexts", "none", "--widths", "none", "--corpus-mb", "none"], "Nothing is left"),
        (["--scaling", "--contexts", "1"], "train.context"),
        (["--scaling", "--from", "nowhere.json"], "nowhere.json is missing"),
        (["--scaling", "--from", "nowhere.json"], "Name the scaling.json in the folder that -o named"),
        (["--scaling", "--from", "a.json", "--widths", "64"], "--from measures nothing"),
    ],
)
def test_mistakes_are_sentences(text: Path, arguments: list[str], said: str) -> None:
    if "--from" not in arguments:
        arguments = [*tiny(text), *arguments]
        for key in ("train.context", "train.batch_tokens"):
            if any(argument.startswith(key) for argument in arguments[12:]):
                arguments = [a for n, a in enumerate(arguments) if n >= 12 or not a.startswith(key)]
    assert said in refused(*arguments)


@pytest.mark.parametrize("flags", [[], ["--scaling"]])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    text: Path, tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (bench, scaling):
        monkeypatch.setattr(module, "measure", lambda *rest: pytest.fail("it measured"))
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(*tiny(text), *flags, "-o", tmp_path / "file" / "deep" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_directory_is_no_table(text: Path, tmp_path: Path) -> None:
    assert "it is a directory" in refused(*tiny(text), "-o", tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema": 1}', '{"schema": 9}', "nonsense"])
def test_a_file_that_holds_no_measurements_is_a_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    assert str(path) in refused("--scaling", "--from", path)


def test_numbers_that_are_none_are_a_sentence_with_json_too(scaled: tuple[Path, str], tmp_path: Path) -> None:
    data = json.loads((scaled[0] / "scaling.json").read_text())
    data["points"][0]["seconds"] = [float("nan")]
    (tmp_path / "scaling.json").write_text(json.dumps(data))
    for source in (tmp_path, tmp_path / "scaling.json"):
        assert "a cost that is no number" in refused("--scaling", "--from", source, "--json")


def test_a_folder_without_measurements_is_a_sentence(tmp_path: Path) -> None:
    assert "scaling.json is missing" in refused("--scaling", "--from", tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_any_work() -> None:
    assert "torch sees no GPU" in refused("--scaling", "train.device=cuda")


def test_numbers() -> None:
    assert numbers("256, 8,256", "--contexts") == [8, 256]
    assert numbers("none", "--contexts") == []
    assert numbers(None, "--contexts") is None


def test_help_imports_nothing_heavy() -> None:
    script = """
import sys
from posx.__main__ import main
sys.argv = ["posx", "bench", "--help"]
try:
    main()
except SystemExit as done:
    assert done.code == 0
print("IMPORTED", sorted({"torch", "hydra", "matplotlib", "numpy", "rich.table"} & set(sys.modules)))
"""
    done = python(script)
    assert done.returncode == 0, done.stderr
    assert "posx bench --schemes" in done.stdout
    assert done.stdout.splitlines()[-1] == "IMPORTED []"


# ---------------------------------------------------------------- interruptions


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(process: int) -> set[int]:
    listed = Path(f"/proc/{process}/task/{process}/children")
    return {int(word) for word in listed.read_text().split()} if listed.exists() else set()


def until(ready: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 90
    while not ready():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("number", "when"), [(signal.SIGINT, "building"), (signal.SIGINT, "working"), (signal.SIGKILL, "working")]
)
def test_children_end_with_the_command(
    text: Path, own: Path, tmp_path: Path, number: signal.Signals, when: str
) -> None:
    """The signal goes to the command alone: while its first child begins, or while one works for minutes."""
    marker = tmp_path / "asleep"
    asked = ["--schemes", "sleeps", "--lengths", "1x", "--config-dir", str(own), "--trust"]
    process = subprocess.Popen(
        [sys.executable, "-m", "posx", "bench", *tiny(text), *asked],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(ASLEEP=str(marker)) | with_own(own),
    )
    left: set[int] = set()
    try:
        ready = marker.exists if when == "working" else lambda: bool(children(process.pid))
        until(lambda: process.poll() is not None or ready(), "no child began")
        assert process.poll() is None, process.communicate()[1]
        left = children(process.pid)
        assert len(left) == (2 if when == "working" else 1)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == (130 if number == signal.SIGINT else -number)
        assert "Traceback" not in err
        assert out == ""
        if number == signal.SIGINT and when == "working":
            assert not any(map(alive, left))
        # One that was just being started ends by itself, when its standard input does.
        until(lambda: not any(map(alive, left)), "a child outlived the command")
    finally:
        for one in [process.pid, *left]:
            if alive(one):
                os.kill(one, signal.SIGKILL)
        process.communicate()


# ---------------------------------------------------------------- scaling


def test_an_exact_power_law_is_found() -> None:
    law = scaling.fit([(x, 3 * x**1.7) for x in (128, 256, 1024, 4096)])
    assert law is not None
    assert law.exponent == pytest.approx(1.7, abs=1e-12)
    assert law.factor == pytest.approx(3, rel=1e-9)
    assert law.local == pytest.approx(1.7, abs=1e-12)
    assert (law.low, law.high, law.local_from) == (128, 4096, 1024)


def test_least_squares_by_hand() -> None:
    """log y = 0, 1, 1 over log x = 0, 1, 2: slope 1/2, and nothing between the last two."""
    law = scaling.fit([(1, 1), (math.e, math.e), (math.e**2, math.e)])
    assert law is not None
    assert law.exponent == pytest.approx(0.5)
    assert law.factor == pytest.approx(math.exp(1 / 6))
    assert law.local == pytest.approx(0, abs=1e-12)


def test_a_sum_of_powers_has_the_larger_one_at_its_end() -> None:
    law = scaling.fit([(2.0**n, 2.0**n + 4.0**n) for n in range(-6, 7)])  # x + x², as long below 1 as above
    assert law is not None
    assert law.exponent == pytest.approx(1.5, abs=1e-9)  # x → 1/x turns log(1 + x) by log x: symmetrical
    assert law.local == pytest.approx(1 + math.log2(65 / 33))


def test_no_law_without_two_points() -> None:
    assert scaling.fit([]) is None
    assert scaling.fit([(128, 1.0)]) is None
    assert scaling.fit([(128, 1.0), (256, 0.0)]) is None
    assert scaling.fit([(128, 1.0), (128, 2.0)]) is None


def test_the_points_of_scaling() -> None:
    plan = scaling.make_plan(["scheme=alibi"])
    contexts = {x: c.train for axis, x, c in plan.training if axis == "context"}
    assert {x: (t.context, t.batch_tokens) for x, t in contexts.items()} == {
        x: (x, 4096) for x in (128, 256, 512, 1024, 2048, 4096)
    }
    widths = {x: c for axis, x, c in plan.training if axis == "width"}
    assert [(x, c.model.d_model, c.model.n_heads) for x, c in widths.items()] == [
        (64, 64, 1), (128, 128, 2), (256, 256, 4), (512, 512, 8), (1024, 1024, 16)
    ]  # fmt: skip
    assert all(c.train.context == 256 for c in widths.values())
    for _, _, config in plan.training:
        assert config.scheme["name"] == "alibi"
        assert config.train.compile == "off"
        assert config.model.n_layers == 4
    assert plan.corpus_mb == (1, 10, 100, 1000)
    (longer,) = scaling.make_plan([], [8192], [], []).training
    assert longer[2].train.batch_tokens == 8192


def test_generated_text_is_like_text() -> None:
    """The smaller corpus begins the larger, no word has two ranks, and new words come as about the 0.55th power."""
    assert list(islice(pseudotext.documents(), 3)) == list(islice(pseudotext.documents(), 5))[:3]
    assert len({pseudotext.word(rank) for rank in range(200_000)}) == 200_000
    distinct: set[str] = set()
    total, seen = 0, {}
    for number, text in enumerate(islice(pseudotext.documents(), 256), start=1):
        words = text.lower().replace(".", "").split()
        distinct.update(words)
        total += len(words)
        seen[number] = (total, len(distinct))
    (few, fewer), (many, more) = seen[16], seen[256]
    assert 0.45 < math.log(more / fewer) / math.log(many / few) < 0.65


def test_a_corpus_has_the_size_that_was_asked(tmp_path: Path) -> None:
    told: list[int] = []
    pseudotext.write_corpus(tmp_path / "a.jsonl", 300_000, told.append)
    texts = [json.loads(line)["text"] for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    sizes = [len(text.encode()) for text in texts]
    assert sum(sizes[:-1]) < 300_000 <= sum(sizes)
    assert told[-1] == 300_000
    assert all(a < b for a, b in pairwise(told))
    assert len(set(texts)) == len(texts)


@pytest.fixture(scope="module")
def scaled(text: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of results with one point that cannot be, and what was printed."""
    folder = tmp_path_factory.mktemp("scaled") / "deep" / "out"
    result = posx(
        "bench", *tiny(text), "--scaling", "--contexts", "8,16,5000", "--widths", "none", "--corpus-mb", "1",
        "--rounds", "2", "--burst", "0", "-o", folder,
    )  # fmt: skip
    return folder, result.stdout


def test_scaling_measures_and_says_what_could_not_be(scaled: tuple[Path, str]) -> None:
    data = json.loads((scaled[0] / "scaling.json").read_text("utf-8"))
    points = {(point["axis"], point["x"]): point for point in data["points"]}
    assert list(points) == [("context", 8), ("context", 16), ("context", 5000), ("corpus", 1)]
    impossible = points.pop(("context", 5000))
    assert impossible["seconds"] == impossible["peak_memory_bytes"] == []
    assert "the longest training document" in impossible["reason"]
    for (axis, _), point in points.items():
        assert point["reason"] == ""
        assert len(point["seconds"]) == len(point["peak_memory_bytes"]) == (1 if axis == "corpus" else 2)
        assert all(value > 0 for value in point["seconds"] + point["peak_memory_bytes"])
    assert data["setup"]["device"]
    assert data["setup"]["threads"] == 1
    assert data["scheme"] == "rope"
    for text in (scaled[1], (scaled[0] / "scaling.md").read_text("utf-8")):
        assert "the longest training document" in text
        assert f"Made by `{data['command']}`" in text


def test_scaling_is_drawn_again_without_measuring(
    scaled: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "Child", lambda *rest: pytest.fail("it measured"))
    again = posx("bench", "--scaling", "--from", scaled[0] / "scaling.json", "-o", tmp_path / "again")
    assert again.stdout == scaled[1]
    assert {path.name for path in scaled[0].iterdir()} == {f"scaling.{s}" for s in ("json", "md", "png", "svg")}
    assert {path.name for path in (tmp_path / "again").iterdir()} == {f"scaling.{s}" for s in ("md", "png", "svg")}
    assert (tmp_path / "again" / "scaling.md").read_bytes() == (scaled[0] / "scaling.md").read_bytes()


def known() -> dict[str, Any]:
    """Measurements whose exponents are known: time 1 and memory 0.5 over the context, one width, no corpus."""

    def point(axis: str, x: int, seconds: float, memory: float) -> dict[str, Any]:
        return {"axis": axis, "x": x, "seconds": [9 * seconds, seconds, 0.1 * seconds],
                "peak_memory_bytes": [memory], "reason": ""}  # fmt: skip

    made = {"device": "a machine", "torch": "2", "threads": 1, "dtype": "float32", "compiled": False, "eval_dtype": "",
            "n_layers": 1, "d_model": 64, "n_heads": 1, "context": 8, "vocab_size": 9, "step_tokens": 4096,
            "data": "sotu"}  # fmt: skip
    points = [point("context", x, 0.01 * x, 1e6 * x**0.5) for x in (4, 16, 64)] + [point("width", 64, 1.0, 1e9)]
    return {"schema": 1, "command": "posx bench --scaling", "scheme": "rope", "setup": made, "points": points}


def test_curves_take_medians_and_fit_them() -> None:
    time_, memory, *width = scaling.curves(known())
    assert time_["name"] == "time over context"
    assert time_["points"] == [(x, pytest.approx(0.01 * x)) for x in (4, 16, 64)]
    assert time_["fit"]["exponent"] == pytest.approx(1)
    assert memory["fit"]["exponent"] == pytest.approx(0.5)
    assert [curve["fit"] for curve in width] == [None, None]
    exponents, measurements = map(markdown, scaling.pages(known()))
    assert line_of(exponents, "time over context")[1:] == ["1.00", "4–64", "1.00", "16–64"]
    assert line_of(exponents, "memory over context")[1:3] == ["0.50", "4–64"]
    assert line_of(exponents, "time over width")[1:] == ["–"] * 4
    assert "| context, tokens | 64 | 640 ms | 8 MB |" in measurements


def test_the_picture_shows_points_and_fitted_lines() -> None:
    figure = scaling.draw(known())
    (panel,) = figure.axes  # a single width draws no line
    assert panel.get_xscale() == panel.get_yscale() == "log"
    points, line, *_ = panel.get_lines()
    assert list(points.get_xdata()) == [4, 16, 64]
    assert list(points.get_ydata()) == pytest.approx([1, 4, 16])
    assert list(line.get_ydata()) == pytest.approx([1, 16])
    names = [entry.get_text() for entry in panel.get_legend().get_texts()]
    assert names == ["time: exponent 1.00; last two points 1.00", "memory: exponent 0.50; last two points 0.50"]


def test_a_single_point_is_a_table_without_a_picture(tmp_path: Path) -> None:
    data = known()
    data["points"] = data["points"][-1:]
    written = scaling.write(data, tmp_path, measured=True)
    assert [path.name for path in written] == ["scaling.json", "scaling.md"]
