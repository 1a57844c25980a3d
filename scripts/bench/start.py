"""Start-up time of posx: commands as users type them, each in a separate process.

    .venv/bin/python scripts/bench/start.py > results/bench/start.md

The commands alternate; results are medians over the rounds, without a first round that warms the file cache and the
corpus. The first training step is over when its line appears in metrics.jsonl; the training is then killed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

POSX = str(Path(sys.executable).parent / "posx")
LENGTHS = (128, 256, 512)
LOOK_EVERY = 0.005  # seconds
STEP = [
    *("--scheme", "learned", "model=small", "train.context=256", "train.batch_tokens=4096"),
    *("train.compile=off", "train.steps=2", "train.log_every=1"),
]


def records(folder: Path) -> int:
    """Write records of two schemes, with and without an extension, at six seeds; returns their number."""
    from fixtures.records import ALIBI, ROPE, Shelf

    shelf = Shelf(folder)
    for recipe in (ROPE, ALIBI):
        shelf.row({n: (n / 12800, 0.1) for n in LENGTHS}, seeds=6, **recipe)
        shelf.row({n: (n / 12800, 0.1) for n in (64, *LENGTHS)}, seeds=6, extension="pi", **recipe)
    return len(shelf.records)


def seconds(*command: str) -> float:
    """Wall-clock time of a command, from the start of its process to its end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def first_step(runs: Path) -> float:
    """Wall-clock time from the start of `posx train` to the end of its first step; the run is then killed."""
    name = f"run{len(list(runs.glob('*')))}"
    log = runs / name / "metrics.jsonl"
    began = time.perf_counter()
    with subprocess.Popen(
        [POSX, "train", *STEP, "--name", name, "--runs-dir", str(runs)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            while not (log.exists() and log.stat().st_size):
                if process.poll() is not None:
                    raise SystemExit(f"posx train exited with code {process.returncode} before its first step.")
                time.sleep(LOOK_EVERY)
            return time.perf_counter() - began
        finally:
            process.kill()


def main() -> None:
    """Print the table."""
    from training import header

    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=9)
    rounds = arguments.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="posx-start-") as temporary:
        shelf, runs = Path(temporary) / "records", Path(temporary) / "runs"
        runs.mkdir()
        count = records(shelf)
        commands: dict[str, tuple[str, Callable[[], float]]] = {
            "`posx --help`": ("0.4 s", lambda: seconds(POSX, "--help")),
            f"`posx table`, {count} records": ("1.5 s", lambda: seconds(POSX, "table", "--runs-dir", str(shelf))),
            f"`posx train {' '.join(STEP)}` to the end of step 1": ("5 s", lambda: first_step(runs)),
            "for comparison: `python -c pass`": ("", lambda: seconds(sys.executable, "-c", "pass")),
            "for comparison: `python -c 'import torch'`": ("", lambda: seconds(sys.executable, "-c", "import torch")),
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, (_, measure) in commands.items():
                value = measure()
                if number:
                    taken[name].append(value)
    print(f"Time from the start of a process, with files in the cache; {rounds} alternating rounds. {header()}\n")
    print("| command | median | smallest | largest | limit |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (limit, _) in commands.items():
        times = taken[name]
        print(f"| {name} | {median(times):.3f} s | {min(times):.3f} s | {max(times):.3f} s | {limit} |")


if __name__ == "__main__":
    main()
