"""How many parallel jobs make the quick sweep fastest? Measures whole commands, each in a separate process.

    .venv/bin/python scripts/bench/workers.py > results/bench/workers.md

Runs `posx sweep quick`, with a quarter of its steps and targets, with `--workers 1`, `2` and `4`, and without
`--workers`, which is posx's default choice. They alternate, each time with a new runs directory and each round starting
with a different one; ratios are taken within a round. A first sweep of one step fills the caches (corpus, fonts,
files).
Starting processes matters more in this short sweep than in the full one, which is
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

from training import alternating, header, spread

POSX = str(Path(sys.executable).parent / "posx")
CHOICE = "without `--workers`"


@dataclass(frozen=True)
class Cost:
    """The cost of a sweep; processor seconds include all its jobs."""

    seconds: float
    processor: float
    jobs: int
    workers: int
    cores: int


def sweep(words: list[str], *more: str) -> Cost:
    """Run a whole sweep."""
    with tempfile.TemporaryDirectory(prefix="posx-workers-") as folder, tempfile.TemporaryFile("w+") as output:
        command = [POSX, "sweep", *words, *more, "--runs-dir", str(Path(folder) / "runs")]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            _, status, usage = os.wait4(process.pid, 0)  # includes the usage of its jobs, which it waits for
        except BaseException:
            process.terminate()
            process.wait()
            raise
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    counts = re.search(r"(\d+) to do, (\d+) at a time on (\d+) cores", text)
    if process.returncode or not counts:
        raise SystemExit(f"{' '.join(command)} exited with code {process.returncode}:\n{text[-3000:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, *map(int, counts.groups()))


def show(words: list[str], costs: dict[str, list[Cost]], workers: dict[str, int]) -> None:
    """Print the table."""
    own = costs[CHOICE]
    print(
        f"`posx sweep {' '.join(words)}`: {own[0].jobs} jobs on {own[0].cores} cores, from the start of "
        f"the command to its end; {len(own)} alternating rounds. {header()}\n"
    )
    print("| parallel jobs | seconds | relative to posx's choice | processor seconds | busy cores |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, rounds in costs.items():
        label = f"{name}: {own[0].workers}" if name == CHOICE else name
        ratio = spread([a.seconds / b.seconds for a, b in zip(rounds, own, strict=True)]) if name != CHOICE else ""
        print(
            f"| {label} | {spread([cost.seconds for cost in rounds], '.1f')} | {ratio} | "
            f"{spread([cost.processor for cost in rounds], '.1f')} | "
            f"{median(cost.processor / cost.seconds for cost in rounds):.2f} |",
            flush=True,
        )
    fastest = min(costs, key=lambda name: median(cost.seconds for cost in costs[name]))
    repeated = ""
    if own[0].workers in workers.values():
        repeated = (
            f" `--workers {own[0].workers}` is the same work: the distance of its ratio from 1 shows the measurement "
            "noise."
        )
    print(
        f"\nMedians over the rounds (smallest–largest). The fastest row is {fastest}; posx chose "
        f"{own[0].workers}.{repeated}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", default="1,2,4", help="comma-separated numbers")
    parser.add_argument("--sweep", default="quick", help="name or file of the sweep")
    parser.add_argument("--steps", type=int, default=140, help="training steps per run")
    parser.add_argument("--validation", type=int, default=8192, help="targets per validation, of which there are five")
    parser.add_argument("--targets", type=int, default=512, help="targets per evaluation cell")
    parser.add_argument("overrides", nargs="*", help="additional overrides of the sweep")
    arguments = parser.parse_args()
    words = [arguments.sweep, *arguments.overrides]
    fraction = [
        f"train.steps={arguments.steps}",
        f"train.eval_tokens={arguments.validation}",
        f"eval.max_targets={arguments.targets}",
    ]
    workers = {f"`--workers {number}`": int(number) for number in arguments.workers.split(",")}

    print("filling the caches …", file=sys.stderr, flush=True)
    sweep(words, "train.steps=1", "train.eval_tokens=64", "eval.max_targets=64")
    costs: dict[str, list[Cost]] = {name: [] for name in [*workers, CHOICE]}
    for number in range(arguments.rounds):
        for name in alternating([*costs], number):
            flags = ["--workers", str(workers[name])] if name in workers else []
            cost = sweep(words, *fraction, *flags)
            assert cost.workers == workers.get(name, cost.workers), f"{name}: {cost.workers} at a time"
            costs[name].append(cost)
            done = f"round {number + 1} of {arguments.rounds}: {name} {cost.seconds:.1f} s"
            print(done, file=sys.stderr, flush=True)
    show([*words, *fraction], costs, workers)


if __name__ == "__main__":
    main()
