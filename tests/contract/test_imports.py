"""Laws that cross packages: imports."""

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
    """Of processor time, since other work runs on the machine."""

    def used() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "posx", "--help"], capture_output=True, check=True, env=child_environment()
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(used() for _ in range(3)) < 0.5


# Each costs between a fifth of a second and three seconds; pandas comes by way of pyarrow, in many of its functions.
HEAVY = ("torch", "transformers", "datasets", "matplotlib", "tokenizers", "pandas", "hydra")


LIGHT = ("numpy", "pyarrow", "rich.console")  # a tenth of a second together: for those that read records alone


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
    """Which of HEAVY and LIGHT ``posx ARGUMENTS`` has imported by its end, which must be a good one."""
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
    """96 records with the losses of their targets, of 12 runs."""
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
    found = imported(*words.split(), "--runs-dir", runs, cwd=runs.parent)
    assert found & set(HEAVY) == set()
    assert {"numpy", "pyarrow"} <= found  # the intervals were computed, and this test sees what is imported


def test_pictures_import_no_torch(runs: Path) -> None:
    assert imported("plot", "--runs-dir", runs, cwd=runs.parent) & {"torch", "transformers", "datasets"} == set()


@pytest.mark.parametrize("words", ["schemes", "extensions", "schemes --json", "extensions --json"])
def test_lists_import_nothing_heavy(words: str, tmp_path: Path) -> None:
    assert imported(*words.split(), cwd=tmp_path) & {*HEAVY, "omegaconf"} == set()


# A config is checked by its scheme's class, which is a torch module; the Hub's library is for data alone.
@pytest.mark.parametrize("words", ["config", "schemes rope", "extensions --matrix"])
def test_details_import_torch_at_most(words: str, tmp_path: Path) -> None:
    assert not imported(*words.split(), cwd=tmp_path) & {"transformers", "datasets", "matplotlib", "pandas"}
