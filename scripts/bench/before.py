"""Do models still learn what they learned before the work on speed? The same runs by two checkouts, in turn.

    .venv/bin/python scripts/bench/before.py > results/bench/before.md

``after`` is this checkout as it is, ``before`` a temporary git worktree of another commit; with ``--reference`` there
is ``float32`` too: this checkout with train.dtype=float32 train.compile=off. All run in this Python environment, each
checkout with a cache of its own, so that both build the corpus, which must come out the same. The runs are those of the
quick sweep (configs/sweep/quick.yaml) with fewer steps. Two sums of the same numbers in another order differ in their
last bits, and training makes more of it: what counts is whether that is less than what another seed changes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml

from training import header, in_turn, spread

ROOT = Path(__file__).resolve().parents[2]
BEFORE, AFTER, REFERENCE = "before", "after", "float32"
COMMIT = "1ba2b07"  # the last one before the work on speed
SAME_IN_ALL = ("corpus_sha256", "tokenizer_sha256", "threads", "device")


@dataclass(frozen=True)
class Side:
    """A checkout and what it is given beside the settings of all."""

    name: str
    checkout: Path
    cache: Path
    overrides: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.checkout), "POSX_CACHE": str(self.cache)}


@dataclass(frozen=True)
class Found:
    """The last validation in nats a token, tokens a second of training, and meta.json."""

    validation: float
    rate: float
    meta: dict[str, Any]


Runs = dict[tuple[str, int], dict[str, Found]]  # by scheme and seed, then by side


def git(*words: str) -> str:
    """What git says of this checkout."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """That commit's files in ``folder``, for a while."""
    git("worktree", "add", "--detach", "--quiet", str(folder), commit)
    try:
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


def python(side: Side, folder: Path, *words: str) -> str:
    """Standard output of Python with that checkout's posx, run in a folder that is in no checkout."""
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=folder, env=side.environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side.name}: {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def check_import(side: Side, folder: Path) -> None:
    """The environment has a posx of its own, which must not be the one that is found."""
    imported = Path(python(side, folder, "-c", "import posx; print(posx.__file__)").strip())
    if imported.resolve() != (side.checkout / "posx" / "__init__.py").resolve():
        raise SystemExit(f"{side.name} should run {side.checkout}, but Python finds {imported}.")


def settings(scheme: str) -> list[str]:
    """What the quick sweep trains this scheme with."""
    sweep = yaml.safe_load((ROOT / "configs" / "sweep" / "quick.yaml").read_text("utf-8"))
    rows = [row for row in sweep["schemes"] if isinstance(row, dict) and row["scheme"] == scheme]
    overrides = [*sweep["overrides"], *(override for row in rows for override in row.get("overrides", []))]
    return [f"scheme={scheme}", *(override for override in overrides if not override.startswith("eval."))]


def train(side: Side, folder: Path, scheme: str, seed: int, steps: int) -> Found:
    """One run to its end, by the command."""
    name = f"{side.name}-{scheme}-{seed}"
    overrides = [*settings(scheme), f"train.seed={seed}", f"train.steps={steps}", *side.overrides]
    python(side, folder, "-m", "posx", "train", *overrides, "--name", name, "--runs-dir", "runs")
    run = folder / "runs" / name
    meta = json.loads((run / "meta.json").read_text("utf-8"))
    rates = [json.loads(line)["tokens_per_second"] for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return Found(meta["validation_nats_per_token"], median(rates[1:] or rates), meta)  # the first one warms up


def train_all(sides: list[Side], folder: Path, schemes: list[str], seeds: list[int], steps: int) -> Runs:
    """Every run by every side, each time in another order. Refuses sides that were given unlike work."""
    runs: Runs = {}
    by_name = {side.name: side for side in sides}
    for number, (seed, scheme) in enumerate((seed, scheme) for seed in seeds for scheme in schemes):
        found = {name: train(by_name[name], folder, scheme, seed, steps) for name in in_turn([*by_name], number)}
        for key in SAME_IN_ALL:
            if len({one.meta[key] for one in found.values()}) > 1:
                raise SystemExit(f"{key} differs: {', '.join(f'{n} {one.meta[key]}' for n, one in found.items())}.")
        runs[scheme, seed] = found
        print(f"{number + 1} of {len(schemes) * len(seeds)}: {scheme}, seed {seed}", file=sys.stderr, flush=True)
    return runs


def row(*cells: object) -> None:
    """A line of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def show_runs(runs: Runs, reference: bool) -> None:
    """A line for each run."""
    more = ["float32", "before − float32", "after − float32", "tokens/s, after ÷ float32"] if reference else []
    row("scheme", "seed", "before", "after", "after − before", "tokens/s, after ÷ before", *more)
    row("---", *["---:"] * (5 + len(more)))
    for (scheme, seed), found in runs.items():
        before, after = found[BEFORE], found[AFTER]
        cells = [f"{before.validation:.4f}", f"{after.validation:.4f}", f"{after.validation - before.validation:+.5f}"]
        cells.append(f"{after.rate / before.rate:.2f}")
        if reference:
            exact = found[REFERENCE]
            cells += [f"{exact.validation:.4f}"]
            cells += [f"{one.validation - exact.validation:+.5f}" for one in (before, after)]
            cells.append(f"{after.rate / exact.rate:.2f}")
        row(scheme, seed, *cells)


def show_schemes(runs: Runs, schemes: list[str], seeds: list[int], reference: bool) -> dict[str, tuple[float, float]]:
    """A line for each scheme; returns its mean |after − before| and the noise of its seeds.

    Noise is the standard deviation over the seeds of ``before`` or of ``after``, whichever is smaller.
    """
    more = ["mean \\|before − float32\\|", "mean \\|after − float32\\|"] if reference else []
    heads = ["mean after − before", "mean \\|after − before\\|", "deviation over seeds, before", "after", "share of it"]
    row("scheme", *heads, *more)
    row("---", *["---:"] * (len(heads) + len(more)))
    judged = {}
    for scheme in schemes:
        sides = runs[scheme, seeds[0]]
        found = {name: np.array([runs[scheme, seed][name].validation for seed in seeds]) for name in sides}
        change = found[AFTER] - found[BEFORE]
        size, deviations = np.abs(change).mean(), [found[name].std(ddof=1) for name in (BEFORE, AFTER)]
        noise = min(deviations)
        cells = [f"{change.mean():+.5f}", f"{size:.5f}", *(f"{one:.5f}" for one in deviations), f"{size / noise:.0%}"]
        if reference:
            cells += [f"{np.abs(found[name] - found[REFERENCE]).mean():.5f}" for name in (BEFORE, AFTER)]
        row(scheme, *cells)
        judged[scheme] = size, noise
    return judged


def verdict(judged: dict[str, tuple[float, float]]) -> tuple[str, bool]:
    """A sentence, and whether every difference is within the noise of seeds."""
    shown = {scheme: f"{scheme} ({size:.5f} beside {noise:.5f})" for scheme, (size, noise) in judged.items()}
    larger = [scheme for scheme, (size, noise) in judged.items() if not size <= noise]  # NaN is no small difference
    if larger:
        named = ", ".join(shown[scheme] for scheme in larger)
        return f"Differences are larger than the noise of seeds: {named}, in nats a token.", False
    closest = max(judged, key=lambda scheme: judged[scheme][0] / judged[scheme][1])
    return f"Differences are smaller than the noise of seeds; closest to it is {shown[closest]}, in nats a token.", True


def main() -> None:
    """Read the flags; print the tables; exit code 1 where a difference exceeds the noise of seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default=COMMIT, metavar="COMMIT", help="to compare with")
    parser.add_argument("--schemes", default="learned,rope,alibi", help="with commas between")
    parser.add_argument("--seeds", default="0,1,2", help="two at least, with commas between")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--reference", action="store_true", help="also train in float32, uncompiled")
    arguments = parser.parse_args()
    schemes, seeds = arguments.schemes.split(","), [int(seed) for seed in arguments.seeds.split(",")]
    if len(set(seeds)) < 2:
        parser.error("the noise of seeds takes two of them")
    commit = git("rev-parse", "--verify", f"{arguments.before}^{{commit}}")
    with tempfile.TemporaryDirectory(prefix="posx-before-") as temporary:
        folder = Path(temporary).resolve()
        with worktree(commit, folder / "checkout") as other:
            sides = [Side(BEFORE, other, folder / "cache-before"), Side(AFTER, ROOT, folder / "cache-after")]
            if arguments.reference:
                plain = ("train.dtype=float32", "train.compile=off")
                sides.append(Side(REFERENCE, ROOT, folder / "cache-after", plain))
            for side in sides:
                check_import(side, folder)
            runs = train_all(sides, folder, schemes, seeds, arguments.steps)
    first = next(iter(runs.values()))
    dtypes = ", ".join(f"{name} in {one.meta['dtype']}" for name, one in first.items())
    print(
        f"Validation in nats a token after {arguments.steps} steps of the quick sweep, {len(seeds)} seeds; before: "
        f"{commit[:10]}, after: this commit; {dtypes}. {header()}\n"
    )
    show_runs(runs, arguments.reference)
    print()
    judged = show_schemes(runs, schemes, seeds, arguments.reference)
    sentence, kept = verdict(judged)
    faster = spread([found[AFTER].rate / found[BEFORE].rate for found in runs.values()])
    print(
        f"\n{sentence} Noise is the standard deviation over seeds, of before or after, whichever is smaller. "
        f"Training is {faster} times as fast: median (smallest–largest) of the runs, by their own logs."
    )
    if not kept:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
