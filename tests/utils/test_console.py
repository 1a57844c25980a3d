"""Tests of ``posx.utils.console``."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import torch

from fixtures.commands import (
    text,  # noqa: F401
    there,  # noqa: F401
)
from fixtures.corpora import child_environment

torch.set_num_threads(1)


LIVE = """
from posx.utils.console import Display
with Display() as display:
    display.start("task", 3)
    for step in range(4):
        display.update(step, "loss 5.0")
    display.say("a message")
"""


def test_no_color_disables_the_progress_bar(there: Path) -> None:
    Path("live.py").write_text(LIVE)
    ours, theirs = pty.openpty()
    environment = child_environment(NO_COLOR="1", TERM="xterm-256color")
    done = subprocess.run([sys.executable, "live.py"], stdout=theirs, stderr=theirs, env=environment, check=False)
    os.close(theirs)
    os.set_blocking(ours, False)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "a message" in text
    assert "\x1b" not in text
