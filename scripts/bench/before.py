"""Check that a change does not make training worse: run the same configs with two checkouts, in alternation.

    .venv/bin/python scripts/bench/before.py > results/bench/before.md

``after`` is this checkout, ``before`` a temporary git worktree of another commit; ``--reference`` adds ``float32``,
this checkout with train.dtype=float32 train.compile=off. All use this Python environment. Each checkout has its own
cache, so both build the corpus, and the results must be equal. The runs are those of the quick sweep
(configs/sweep/quick.yaml) with fewer steps. Summing in a different order changes the last bits, and training amplifies
this; the test is whether the difference is smaller than that between seeds.
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

from training import alternating, header, spread

ROOT = Path(__file__).resolve().parents[2]
BEFORE, AFTER, REFERENCE = "before", "after", "float32"
COMMIT = "1ba2b07"  # the last commit before the optimizations
SAME_IN_ALL = ("corpus_sha256", "tokenizer_sha256", "threads", "device")


@dataclass(frozen=True)
class Side:
    """A checkout, its cache, and its additional overrides."""

    name: str
    checkout: Path
    cache: Path
    overrides: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.checkout), "POSX_CACHE": str(self.cache)}


@dataclass(frozen=True)
class Trained:
    """The final validation loss in nats/token, training tokens/s, and meta.json."""

    validation: float
    rate: float
    meta: dict[str, Any]


Runs = dict[tuple[str, int], dict[str, Trained]]  # by scheme and seed, then by side


def git(*words: str) -> str:
    """The output of a git command in this checkout."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """A temporary checkout of the commit in ``folder``."""
    git("worktree", "add", "--detach", "--quiet", str(folder), commit)
    try:
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


def python(side: Side, folder: Path, *words: str) -> str:
    """Standard output of Python with the checkout's posx, run in a directory outside any checkout."""
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=folder, env=side.environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side.name}: {' '.join(command)} exited with code {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def check_import(side: Side, folder: Path) -> None:
    """Check that Python imports the checkout's posx, not the one installed in the environment."""
    imported = Path(python(side, folder, "-c", "import posx; print(posx.__file__)").strip())
    if imported.resolve() != (side.checkout / "posx" / "__init__.py").resolve():
        raise SystemExit(f"{side.name} should run {side.checkout}, but Python imports {imported}.")


def settings(scheme: str) -> list[str]:
    """The overrides of this scheme in the quick sweep."""
    sweep = yaml.safe_load((ROOT / "configs" / "sweep" / "quick.yaml").read_text("utf-8"))
    rows = [row for row in sweep["schemes"] if isinstance(row, dict) and row["scheme"] == scheme]
    overrides = [*sweep["overrides"], *(override for row in rows for override in row.get("overrides", []))]
    return [f"scheme={scheme}", *(override for override in overrides if not override.startswith("eval."))]


def train(side: Side, folder: Path, scheme: str, seed: int, steps: int) -> Trained:
    """Train one run with the command."""
    name = f"{side.name}-{scheme}-{seed}"
    overrides = [*settings(scheme), f"train.seed={seed}", f"train.steps={steps}", *side.overrides]
    python(side, folder, "-m", "posx", "train", *overrides, "--name", name, "--runs-dir", "runs")
    run = folder / "runs" / name
    meta = json.loads((run / "meta.json").read_text("utf-8"))
    rates = [json.loads(line)["tokens_per_second"] for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return Trained(meta["validation_nats_per_token"], median(rates[1:] or rates), meta)  # without the warm-up


def train_all(sides: list[Side], folder: Path, schemes: list[str], seeds: list[int], steps: int) -> Runs:
    """Train every run with every side, in changing order. Fails if the sides did not do the same work."""
    runs: Runs = {}
    by_name = {side.name: side for side in sides}
    for number, (seed, scheme) in enumerate((seed, scheme) for seed in seeds for scheme in schemes):
        trained = {name: train(by_name[name], folder, scheme, seed, steps) for name in alternating([*by_name], number)}
        for key in SAME_IN_ALL:
            if len({run.meta[key] for run in trained.values()}) > 1:
                raise SystemExit(f"{key} differs: {', '.join(f'{n} {run.meta[key]}' for n, run in trained.items())}.")
        runs[scheme, seed] = trained
        print(f"{number + 1} of {len(schemes) * len(seeds)}: {scheme}, seed {seed}", file=sys.stderr, flush=True)
    return runs


def row(*cells: object) -> None:
    """A line of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def show_runs(runs: Runs, reference: bool) -> None:
    """A line for each run."""
    columns = ["float32", "before − float32", "after − float32", "tokens/s, after ÷ float32"] if reference else []
    row("scheme", "seed", "before", "after", "after − before", "tokens/s, after ÷ before", *columns)
    row("---", *["---:"] * (5 + len(columns)))
    for (scheme, seed), trained in runs.items():
        before, after = trained[BEFORE], trained[AFTER]
        cells = [f"{before.validation:.4f}", f"{after.validation:.4f}", f"{after.validation - before.validation:+.5f}"]
        cells.append(f"{after.rate / before.rate:.2f}")
        if reference:
            exact = trained[REFERENCE]
            cells += [f"{exact.validation:.4f}"]
            cells += [f"{run.validation - exact.validation:+.5f}" for run in (before, after)]
            cells.append(f"{after.rate / exact.rate:.2f}")
        row(scheme, seed, *cells)


def show_schemes(runs: Runs, schemes: list[str], seeds: list[int], reference: bool) -> dict[str, tuple[float, float]]:
    """A line for each scheme; returns its mean |after − before| and its seed noise.

    Seed noise is the standard deviation over the seeds of ``before`` or of ``after``, whichever is smaller.
    """
    columns = ["mean \\|before − float32\\|", "mean \\|after − float32\\|"] if reference else []
    heads = ["mean after − before", "mean \\|after − before\\|", "deviation over seeds, before", "after", "share of it"]
    row("scheme", *heads, *columns)
    row("---", *["---:"] * (len(heads) + len(columns)))
    judged = {}
    for scheme in schemes:
        sides = runs[scheme, seeds[0]]
        losses = {name: np.array([runs[scheme, seed][name].validation for seed in seeds]) for name in sides}
        change = losses[AFTER] - losses[BEFORE]
        size, deviations = np.abs(change).mean(), [losses[name].std(ddof=1) for name in (BEFORE, AFTER)]
        noise = min(deviations)
        cells = [f"{change.mean():+.5f}", f"{size:.5f}", *(f"{x:.5f}" for x in deviations), f"{size / noise:.0%}"]
        if reference:
            cells += [f"{np.abs(losses[name] - losses[REFERENCE]).mean():.5f}" for name in (BEFORE, AFTER)]
        row(scheme, *cells)
        judged[scheme] = size, noise
    return judged


def verdict(judged: dict[str, tuple[float, float]]) -> tuple[str, bool]:
    """A sentence, and whether every difference is smaller than the seed noise."""
    texts = {scheme: f"{scheme} ({size:.5f}, noise {noise:.5f})" for scheme, (size, noise) in judged.items()}
    larger = [scheme for scheme, (size, noise) in judged.items() if not size <= noise]  # includes NaN
    if larger:
        names = ", ".join(texts[scheme] for scheme in larger)
        return f"Differences exceed the seed noise, in nats/token: {names}.", False
    closest = max(judged, key=lambda scheme: judged[scheme][0] / judged[scheme][1])
    return f"All differences are smaller than the seed noise, in nats/token; the closest is {texts[closest]}.", True


def main() -> None:
    """Print the tables; exit code 1 if a difference exceeds the seed noise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default=COMMIT, metavar="COMMIT", help="the commit to compare with")
    parser.add_argument("--schemes", default="learned,rope,alibi", help="comma-separated names")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated, at least two")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--reference", action="store_true", help="also train in float32, uncompiled")
    arguments = parser.parse_args()
    schemes, seeds = arguments.schemes.split(","), [int(seed) for seed in arguments.seeds.split(",")]
    if len(set(seeds)) < 2:
        parser.error("--seeds requires at least two seeds")
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
    dtypes = ", ".join(f"{name} in {run.meta['dtype']}" for name, run in first.items())
    print(
        f"Validation loss in nats/token after {arguments.steps} steps of the quick sweep, {len(seeds)} seeds; before: "
        f"{commit[:10]}, after: this commit; {dtypes}. {header()}\n"
    )
    show_runs(runs, arguments.reference)
    print()
    judged = show_schemes(runs, schemes, seeds, arguments.reference)
    sentence, passed = verdict(judged)
    faster = spread([trained[AFTER].rate / trained[BEFORE].rate for trained in runs.values()])
    print(
        f"\n{sentence} Noise is the standard deviation over seeds, of before or after, whichever is smaller. "
        f"Training is {faster} times as fast: median (smallest–largest) over the runs, from their logs."
    )
    if not passed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
