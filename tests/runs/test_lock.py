"""Two processes cannot write to the same run; killing a process releases its lock."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixtures.corpora import child_environment
from posx.config.schema import RunConfig
from posx.errors import PosxError
from posx.runs.directory import Run, locked

HOLD = """
import sys
from pathlib import Path
from posx.config.schema import RunConfig
from posx.runs.directory import Run, locked
with locked(Run(Path(sys.argv[1]), RunConfig())):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, RunConfig())


@contextmanager
def held_elsewhere(run: Run) -> Iterator[subprocess.Popen[str]]:
    """Lock the run in another process."""
    arguments = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_environment()
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "locked\n"
            yield other
        finally:
            other.kill()


def refused(run: Run) -> PosxError:
    with pytest.raises(PosxError) as caught, locked(run):
        pytest.fail("the lock was held")
    return caught.value


def test_a_second_process_is_refused_until_the_first_is_killed(run: Run) -> None:
    with held_elsewhere(run) as other:
        sentence = f"Another process is working on {run.path}. Wait for it, or choose another --name."
        assert str(refused(run)) == sentence
        other.kill()
        other.wait()
        assert (run.path / ".lock").exists()
        with locked(run):
            pass


def test_a_second_lock_in_one_process_is_refused_until_the_first_is_released(run: Run) -> None:
    with locked(run):
        refused(run)
        refused(run)
    with locked(run):
        pass


def test_an_error_releases_the_lock(run: Run) -> None:
    with pytest.raises(ZeroDivisionError), locked(run):
        raise ZeroDivisionError
    with locked(run):
        pass


def test_a_lock_of_0_3_0_excludes_others_but_its_lock_file_does_not(run: Run) -> None:
    with (run.path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        refused(run)
    assert (run.path / ".lock").read_text() == ""
    with locked(run):
        pass


def test_a_lock_excludes_a_process_of_0_3_0(run: Run) -> None:
    with locked(run), (run.path / ".lock").open("w") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_run_directory_that_cannot_be_locked_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    assert "cannot be locked" in str(refused(Run(tmp_path, RunConfig())))


def test_listing_runs_does_not_import_the_lock() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, posx.runs.directory; print('filelock' in sys.modules)"],
        capture_output=True,
        text=True,
        env=child_environment(),
        check=True,
    )
    assert done.stdout == "False\n"
