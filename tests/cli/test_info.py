"""posx schemes and posx extensions: lists from cards, without torch; details and the matrix from classes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from posx.config.catalog import PACKAGED

PROGRAM = "import sys; from posx.cli.app import app; app(standalone_mode=False); assert 'torch' not in sys.modules"


def run(*words: str, code: int = 0) -> Any:
    done = subprocess.run([sys.executable, "-m", "posx", *words], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


def rows(*words: str) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(run(*words, "--json").stdout)}


def on_a_terminal(*words: str) -> list[str]:
    """What is shown on one of 80 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-m", "posx", *words], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0, shown.decode()
    return [line.rstrip() for line in shown.decode().replace("\r", "").splitlines()]


@pytest.mark.parametrize("words", [["schemes"], ["extensions"], ["schemes", "--json"], ["extensions", "--json"]])
def test_a_list_imports_no_torch(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 1000


def test_lists_in_json() -> None:
    schemes, extensions = rows("schemes"), rows("extensions")
    assert set(schemes) == set(PACKAGED.options("scheme"))
    assert set(extensions) == {"none", *PACKAGED.options("extension")}
    assert schemes["alibi"] == {
        "name": "alibi",
        "formula": "logit − m_h·(i − j),  m_h = 2^(−8h/H)",
        "cost": "one addition per logit",
        "paper": "Press et al. 2021, arXiv 2108.12409",
    }
    assert extensions["pi"] == {
        "name": "pi",
        "changes": "spectrum",
        "formula": "θ_k / s",
        "paper": "Chen et al. 2023, arXiv 2306.15595",
    }


def test_details_of_schemes_in_json() -> None:
    found = rows("schemes", "learned", "rope", "t5", "layers", "rope")
    assert list(found) == ["learned", "rope", "t5", "layers"]
    assert found["learned"]["parameters"] == 64 * 128
    assert found["t5"]["parameters"] == 32 * 4
    assert found["rope"]["settings"] == {"base": 10000.0, "fraction": 1.0}
    assert found["rope"]["paper"] == "Su et al. 2021, arXiv 2104.09864"
    assert found["rope"]["extensions"] == [
        "abf", "by-parts", "dual-chunk", "dynamic-ntk", "leaky-rerope", "llama3", "lm-infinite", "log-n", "longrope",
        "ntk", "pi", "rerope", "resonance", "self-extend", "sinks", "temperature", "window", "yarn",
    ]  # fmt: skip
    assert found["learned"]["extensions"] == ["interpolate", "lm-infinite", "log-n", "sinks", "temperature", "window"]


def test_details_of_extensions_and_the_matrix_in_json() -> None:
    found = rows("extensions", "pi", "sinks", "none")
    assert found["pi"]["settings"] == {"s": None}
    assert "rope" in found["pi"]["schemes"]
    assert "alibi" not in found["pi"]["schemes"]
    assert "nope" in found["sinks"]["mask_only"]
    assert "rope" not in found["sinks"]["mask_only"]
    assert found["none"]["schemes"] == sorted(PACKAGED.options("scheme"))
    matrix = rows("extensions", "--matrix")
    assert {name: matrix[name]["schemes"] for name in found} == {name: found[name]["schemes"] for name in found}
    assert set(matrix) == {"none", *PACKAGED.options("extension")}


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["schemes"], sorted(PACKAGED.options("scheme"))),
        (["extensions"], sorted(PACKAGED.options("extension"))),
        (["schemes", "rope", "alibi"], ["rope", "alibi", "scheme.base=10000.0", "self-extend"]),
        (["extensions", "pi"], ["θ_k / s", "partial-rope", "s=auto"]),
        (["extensions", "--matrix"], [*PACKAGED.options("extension"), *PACKAGED.options("scheme")]),
    ],
)
def test_everything_can_be_read_at_80_columns(words: list[str], names: list[str]) -> None:
    lines = on_a_terminal(*words)
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert [name for name in names if not any(name in line for line in lines)] == []


@pytest.mark.parametrize(("words", "guess"), [(["schemes", "ropp"], "rope"), (["extensions", "pii"], "pi")])
def test_an_unknown_name_is_a_sentence(words: list[str], guess: str) -> None:
    assert f"Did you mean {guess}" in run(*words, code=2).stderr


def test_a_users_yaml_without_a_formula_shows_a_dash(tmp_path: Path) -> None:
    (tmp_path / "scheme").mkdir()
    (tmp_path / "scheme" / "mine.yaml").write_text("_target_: elsewhere.Mine\n")
    shown = run("schemes", "--config-dir", str(tmp_path)).stdout  # runs none of its code, so needs no --trust
    (line,) = [line for line in shown.splitlines() if "mine" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")] == ["mine", "–"]
