"""Tests of ``posx.cli.app``."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch

from fixtures.commands import (
    refused,
    runs,  # noqa: F401
    text,  # noqa: F401 - a fixture
    there,  # noqa: F401
)
from fixtures.corpora import child_environment
from fixtures.models import posx
from posx.cli.app import app

torch.set_num_threads(1)


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


def test_clicks_own_errors_have_the_same_exit_code() -> None:
    assert click.UsageError.exit_code == 2
    assert "--scheme" in refused("train", "--scheme")


def test_summaries_of_commands_are_short_imperatives() -> None:
    for entry in app.registered_commands:
        assert entry.callback is not None
        summary = (entry.callback.__doc__ or "").splitlines()[0]
        first = summary.split()[0]
        assert len(summary) <= 55, summary
        assert summary.endswith("."), summary
        assert not summary.endswith(".."), summary
        assert first[0].isupper(), summary
        assert not first.endswith(("s", "ing", "ed")), summary
