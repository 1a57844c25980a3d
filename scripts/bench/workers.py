"""How many jobs at a time make the quick sweep finish first? Whole commands, each a process of its own.

    .venv/bin/python scripts/bench/workers.py > results/bench/workers.md

`posx sweep quick`, with a quarter of its steps and targets, runs with `--workers 1`, `2` and `4` and without
`--workers`, as posx chooses by itself. All take turns, each time into a new runs directory, and each
round begins at another one; ratios are taken within a round. Before that a sweep of one step fills the caches: corpus,
fonts, files. Starting processes weighs more in a quarter than in the whole, which is
`--steps 560 --validation 32768 --targets 2048`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from training import header, in_turn, spread

POSX = str(Path(sys.executable).parent / "posx")
CHOICE = "without `--workers`"


@dataclass(frozen=True)
class Taken:
    """What a sweep took; processor seconds are those of the command and of all its jobs."""

    seconds: float
    processor: float
    jobs: int
    workers: int
    cores: int


def sweep(words: list[str], *more: str) -> Taken:
    """Run a sweep to its end."""
    with tempfile.TemporaryDirectory(prefix="posx-workers-") as folder, tempfile.TemporaryFile("w+") as output:
        command = [POSX, "sweep", *words, *more, "--runs-dir", str(Path(folder) / "runs")]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            _, status, usage = os.wait4(process.pid, 0)  # with the usage of its jobs, for which it waits itself
        except BaseException:
            process.terminate()
            process.wait()
            raise
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read()
    found = re.search(r"(\d+) to do, (\d+) at a time on (\d+) cores", said)
    if process.returncode or not found:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said[-3000:]}")
    return Taken(seconds, usage.ru_utime + usage.ru_stime, *map(int, found.groups()))


def show(words: list[str], taken: dict[str, list[Taken]], asked: dict[str, int]) -> None:
    """Print the table."""
    own = taken[CHOICE]
    print(
        f"`posx sweep {' '.join(words)}`: {own[0].jobs} jobs on {own[0].cores} cores, from the start of "
        f"the command to its end; {len(own)} rounds in turn. {header()}\n"
    )
    print("| jobs at a time | seconds | … times as long as posx's own choice | processor seconds | cores kept busy |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, some in taken.items():
        shown = f"{name}: {own[0].workers}" if name == CHOICE else name
        ratio = spread([a.seconds / b.seconds for a, b in zip(some, own, strict=True)]) if name != CHOICE else ""
        print(
            f"| {shown} | {spread([one.seconds for one in some], '.1f')} | {ratio} | "
            f"{spread([one.processor for one in some], '.1f')} | "
            f"{median(one.processor / one.seconds for one in some):.2f} |",
            flush=True,
        )
    first = min(taken, key=lambda name: median(one.seconds for one in taken[name]))
    twice = ""
    if own[0].workers in asked.values():
        twice = (
            f" `--workers {own[0].workers}` is the same work once more: how far its ratio is from 1 is what a small "
            "difference is worth."
        )
    print(
        f"\nMedians of the rounds (smallest–largest). The smallest is that of the row {first}; posx itself chose "
        f"{own[0].workers}.{twice}"
    )


def main() -> None:
    """Read the flags; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", default="1,2,4", help="numbers with commas between")
    parser.add_argument("--sweep", default="quick", help="a sweep's name or file")
    parser.add_argument("--steps", type=int, default=140, help="of each training")
    parser.add_argument("--validation", type=int, default=8192, help="targets of each of its five validations")
    parser.add_argument("--targets", type=int, default=512, help="of each cell of the evaluations")
    parser.add_argument("overrides", nargs="*", help="further overrides of the sweep")
    arguments = parser.parse_args()
    words = [arguments.sweep, *arguments.overrides]
    fraction = [
        f"train.steps={arguments.steps}",
        f"train.eval_tokens={arguments.validation}",
        f"eval.max_targets={arguments.targets}",
    ]
    asked = {f"`--workers {number}`": int(number) for number in arguments.workers.split(",")}

    print("filling the caches …", file=sys.stderr, flush=True)
    sweep(words, "train.steps=1", "train.eval_tokens=64", "eval.max_targets=64")
    taken: dict[str, list[Taken]] = {name: [] for name in [*asked, CHOICE]}
    for number in range(arguments.rounds):
        for name in in_turn([*taken], number):
            flags = ["--workers", str(asked[name])] if name in asked else []
            found = sweep(words, *fraction, *flags)
            assert found.workers == asked.get(name, found.workers), f"{name}: {found.workers} at a time"
            taken[name].append(found)
            done = f"round {number + 1} of {arguments.rounds}: {name} {found.seconds:.1f} s"
            print(done, file=sys.stderr, flush=True)
    show([*words, *fraction], taken, asked)


if __name__ == "__main__":
    main()
