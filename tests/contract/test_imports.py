"""What commands import: help nothing heavy, tables no torch."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fixtures.corpora import child_environment, python
from fixtures.records import ALIBI, ROPE, Shelf

torch.set_num_threads(1)


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
    """Measured in processor time, because other work may run on the machine."""

    def used() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "posx", "--help"], capture_output=True, check=True, env=child_environment()
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(used() for _ in range(3)) < 0.5


# Each takes between 0.2 and 3 seconds; many functions of pyarrow import pandas.
HEAVY = ("torch", "transformers", "datasets", "matplotlib", "tokenizers", "pandas", "hydra")


LIGHT = ("numpy", "pyarrow", "rich.console")  # 0.1 s together; only for commands that read records


PROGRAM = """\
import json, sys
from posx.__main__ import main
code = 0
try:
    main()
except SystemExit as left:
    code = left.code or 0
print(json.dumps([code, [name for name in {names!r} if name in sys.modules]]), file=sys.stderr)
"""


def imported(*arguments: object, cwd: Path) -> set[str]:
    """Which of HEAVY and LIGHT ``posx ARGUMENTS`` has imported when it exits, with code 0."""
    program = PROGRAM.format(names=HEAVY + LIGHT)
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    code, names = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    assert done.stdout.strip()
    return set(names)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 records of 12 runs, with the losses of their targets."""
    shelf = Shelf(tmp_path_factory.mktemp("many") / "runs")
    for recipe in (ROPE, ALIBI):
        shelf.row({length: (length / 12800, 0.1) for length in (128, 256, 512)}, seeds=6, **recipe)
        shelf.row({length: (length / 12800, 0.1) for length in (64, 128, 256, 512)}, seeds=6, extension="pi", **recipe)
    assert len(shelf.records) == 96
    return shelf.folder


@pytest.mark.parametrize("words", ["", "--help", "--version", "train --help", "eval --help", "table --help"])
def test_help_imports_nothing(words: str, tmp_path: Path) -> None:
    assert imported(*words.split(), cwd=tmp_path) == set()


@pytest.mark.parametrize(
    "words",
    ["table", "table --protocol all", "table --format json", "table --format latex", "compare rope:pi alibi"],
)
def test_tables_import_nothing_heavy(words: str, runs: Path) -> None:
    modules = imported(*words.split(), "--runs-dir", runs, cwd=runs.parent)
    assert modules & set(HEAVY) == set()
    assert {"numpy", "pyarrow"} <= modules  # intervals were computed, and imports are detected


def test_plots_import_no_torch(runs: Path) -> None:
    assert imported("plot", "--runs-dir", runs, cwd=runs.parent) & {"torch", "transformers", "datasets"} == set()


@pytest.mark.parametrize("words", ["schemes", "extensions", "schemes --json", "extensions --json"])
def test_lists_import_nothing_heavy(words: str, tmp_path: Path) -> None:
    assert imported(*words.split(), cwd=tmp_path) & {*HEAVY, "omegaconf"} == set()


# A scheme's class, a torch module, checks its config; the Hub's library is needed for data only.
@pytest.mark.parametrize("words", ["config", "schemes rope", "extensions --matrix"])
def test_details_import_torch_at_most(words: str, tmp_path: Path) -> None:
    assert not imported(*words.split(), cwd=tmp_path) & {"transformers", "datasets", "matplotlib", "pandas"}
