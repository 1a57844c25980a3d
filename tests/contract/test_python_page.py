"""docs/python.md: its first program runs as written, in a separate process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from fixtures.corpora import child_environment
from fixtures.packages import ROOT

PAGE = ROOT / "docs" / "python.md"


def test_the_first_program_of_the_page_runs_as_written(tmp_path: Path) -> None:
    program = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)[0]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # only the program itself prints
    rows = [line.split() for line in done.stdout.splitlines()[:4]]
    assert [row[:2] for row in rows] == [["none", "32"], ["none", "64"], ["pi", "32"], ["pi", "64"]]
    assert rows[0][2] == rows[2][2]  # at 1x interpolation does nothing
    assert all(3 < float(row[2]) < 6 for row in rows)
    assert "| rope + 5 steps at 64 | pi(s=2) (trained) |" in done.stdout
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"first", "first-pi-s-2-64-5steps"}


def test_every_function_of_the_page_exists() -> None:
    import posx

    named = set(re.findall(r"posx\.(\w+)[(.`]", PAGE.read_text("utf-8")))
    assert {"train", "evaluate", "load_records"} <= named
    assert named <= set(posx.__all__)
