"""Tests of ``posx.bench.process``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.corpora import child_environment
from fixtures.measured import (
    own,  # noqa: F401
    text,  # noqa: F401
    tiny,
    with_own,
)


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
    """The signal is sent only to the command: while its first child starts, or during a long burst."""
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
