"""Training speed of posx and its alternatives in tokens/s, measured in alternation.

    .venv/bin/python scripts/bench/training.py > results/bench/training.md
    .venv/bin/python scripts/bench/training.py --whole > results/bench/training-whole.md

Each side (rivals.py) is a separate process, which warms up, compiles if it does so, and then waits for requests, so
that changes in the speed of the machine affect all sides alike. Each round runs some steps of every side, in changing
order; results are medians of the ratios within a round. With ``--whole``, the speed of the command `posx train` is
taken from its log.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

import rivals
import torch

from posx.bench.process import Child, Refused, serve
from posx.runs import provenance
from posx.runtime import device as devices

POSX = "posx-learned"
PRODUCTS = "products"
WARM_UP = 4  # steps
WHOLE_STEPS, WHOLE_ROUNDS = 60, 3
LOG_EVERY = 10  # steps; the default of train.log_every

# ---------------------------------------------------------------- alternating sides

Answer = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass
class Side:
    """The worker of a side's process (posx/bench/process.py)."""

    answer: Answer

    def about(self) -> dict[str, Any]:
        """Empty: there is nothing to report."""
        return {}


class Sides:
    """One process for each side; a context manager that ends them on exit."""

    def __init__(self, script: str):
        self.script = script  # must call serve() if started with --serve
        self.children: dict[str, Child] = {}

    def __enter__(self) -> Sides:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self.children.values():
            child.end()

    def start(self, name: str, spec: dict[str, Any]) -> None:
        """Start the process of a side and wait until it is warm."""
        print(f"{name}: warming up …", file=sys.stderr, flush=True)
        with _named(name):
            self.children[name] = Child([self.script, "--serve", name], spec)

    def ask(self, name: str, **request: Any) -> dict[str, Any]:
        """Send a request to a side and return its answer."""
        with _named(name):
            return self.children[name].ask(request)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Exit with the name of the side if it fails."""
    try:
        yield
    except Refused as error:
        raise SystemExit(f"{name}: {error}") from None


def alternating(names: Sequence[str], number: int) -> list[str]:
    """The order of a round: each round starts with a different side, and every other one runs backwards."""
    first = number % len(names)
    order = [*names[first:], *names[:first]]
    return order[::-1] if number % 2 else order


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Median (smallest–largest)."""
    return f"{median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def header(*packages: str) -> str:
    """The machine, versions and command, for the head of a table."""
    commit = provenance.commit() or "unknown"
    changed = "+" if commit.endswith("+") else ""
    names = ["torch", *packages]
    return (
        f"Machine: {devices.device_name(torch.device('cpu'))}, {torch.get_num_threads()} threads; "
        f"posx {version('posx')} ({commit[:10]}{changed}), Python {platform.python_version()}, "
        f"{', '.join(f'{name} {version(name)}' for name in names)}. Command: `python {shlex.join(sys.argv)}`."
    )


# ---------------------------------------------------------------- training


def answer_of(name: str) -> Answer:
    """The answer of a side to a request: seconds for a number of steps; or the speed of matrix products."""
    if name == PRODUCTS:
        measure = rivals.products()
        return lambda request: measure()
    step = rivals.SIDES[name]()
    for _ in range(WARM_UP):
        step()

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        for _ in range(request["steps"]):
            loss = step()
        return {"seconds": time.perf_counter() - began, "loss": loss}

    return answer


def compare(names: list[str], rounds: int, steps: int) -> None:
    """Print tokens/s of each side, and the relative speed of posx."""
    rates: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, float] = {}
    best: list[float] = []
    with Sides(__file__) as sides:
        for name in [*names, PRODUCTS]:
            sides.start(name, {"name": name})
        for number in range(rounds):
            for name in alternating([*names, PRODUCTS], number):
                answer = sides.ask(name, steps=steps)
                if name == PRODUCTS:
                    best.append(answer["best"])
                else:
                    rates[name].append(steps * rivals.TOKENS / answer["seconds"])
                    losses[name] = answer["loss"]
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    operations = rivals.operations_per_token()
    print(
        f"Training, {rivals.LAYERS} layers, width {rivals.WIDTH}, {rivals.HEADS} heads, context {rivals.CONTEXT}, "
        f"vocabulary {rivals.VOCABULARY:,}, {rivals.BATCH} sequences per step; {rounds} alternating rounds of {steps} "
        "steps. "
        f"{header('transformers', 'x-transformers')}\n"
    )
    print(f"| side | tokens/s | relative speed of {POSX} | share of matrix product speed | last loss |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in names:
        ratio, share = "", ""
        if name != POSX:
            ratio = spread([ours / theirs for ours, theirs in zip(rates[POSX], rates[name], strict=True)])
        if name.startswith("posx") and "float32" not in name:
            share = spread([rate * operations / most for rate, most in zip(rates[name], best, strict=True)], ".0%")
        print(f"| {name} | {median(rates[name]):,.0f} | {ratio} | {share} | {losses[name]:.2f} |")
    print(
        "\nRatios and shares are medians over the rounds (smallest–largest). Speed of matrix products: "
        f"{spread([rate / 1e9 for rate in best], '.0f')} · 10⁹ operations/s in bf16, the faster of "
        "2048×2048 @ 2048×2048 and 4096×256 @ 256×1024 in each round. "
        f"A token takes {operations / 1e6:.1f} · 10⁶ operations, without halving attention for its mask. "
        "The loss starts at 8.3 and falls if a side learns; initial values and schedules differ."
    )


# ---------------------------------------------------------------- the whole command


def posx_train(runs: Path) -> list[float]:
    """Tokens/s in each log entry of the first 60 steps of `posx train`, which is killed after them."""
    command = [str(Path(sys.executable).parent / "posx"), "train", "--scheme", "learned", *rivals.POSX]
    name = f"run{len(list(runs.glob('*')))}"
    log = runs / name / "metrics.jsonl"
    with subprocess.Popen(
        [*command, "--name", name, "--runs-dir", str(runs)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while True:
                lines = log.read_text().splitlines() if log.exists() else []
                if len(lines) * LOG_EVERY >= WHOLE_STEPS:
                    rows = [json.loads(line) for line in lines]
                    assert [row["step"] for row in rows][:2] == [LOG_EVERY, 2 * LOG_EVERY]
                    return [row["tokens_per_second"] for row in rows]
                if process.poll() is not None:
                    raise SystemExit(f"posx train exited with code {process.returncode}.")
                time.sleep(0.1)
        finally:
            process.kill()


def whole(rival: str, rounds: int) -> None:
    """Print the speed of `posx train` by its log, and of 60 steps of its loop and of a rival in warm processes."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="posx-whole-") as runs, Sides(__file__) as sides:
        for name in (POSX, rival):
            sides.start(name, {"name": name})
        for number in range(rounds):
            row: dict[str, float] = {}
            for name in alternating(["command", POSX, rival], number):
                if name == "command":
                    # The first entry includes the compilation.
                    row[name] = median(posx_train(Path(runs))[1:])
                else:
                    row[name] = WHOLE_STEPS * rivals.TOKENS / sides.ask(name, steps=WHOLE_STEPS)["seconds"]
            rows.append(row)
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    print(
        f"`posx train --scheme learned {' '.join(rivals.POSX)}`: tokens/s of its first {WHOLE_STEPS} steps by its log "
        f"(median of the entries, without the first, which includes the compilation), and of {WHOLE_STEPS} steps of "
        f"the same loop and of {rival} in warm processes. {header()}\n"
    )
    print(f"| round | posx train | {POSX} loop | {rival} | posx train ÷ {POSX} | posx train ÷ {rival} |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for number, row in enumerate(rows, 1):
        command = row["command"]
        print(
            f"| {number} | {command:,.0f} | {row[POSX]:,.0f} | {row[rival]:,.0f} | {command / row[POSX]:.2f} | "
            f"{command / row[rival]:.2f} |"
        )
    own, other = ([row["command"] / row[name] for row in rows] for name in (POSX, rival))
    print(f"| median | | | | {spread(own)} | {spread(other)} |")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="default: 12, with --whole 3")
    parser.add_argument("--steps", type=int, default=5, help="steps per side and round")
    parser.add_argument("--sides", help="comma-separated names from rivals.py; default: all")
    parser.add_argument("--whole", action="store_true", help="measure the command and the first other side of --sides")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(lambda spec: Side(answer_of(**spec)))
        return
    rivals.corpus()  # built once, before anything is timed
    names = arguments.sides.split(",") if arguments.sides else list(rivals.SIDES)
    unknown = [name for name in names if name not in rivals.SIDES]
    if unknown:
        parser.error(f"unknown side {', '.join(unknown)}; known: {', '.join(rivals.SIDES)}")
    if arguments.whole:
        others = [name for name in names if name != POSX] if arguments.sides else ["nanogpt-bf16-compiled"]
        whole(others[0], arguments.rounds or WHOLE_ROUNDS)
    else:
        compare(list(dict.fromkeys([POSX, *names])), arguments.rounds or 12, arguments.steps)


if __name__ == "__main__":
    main()
