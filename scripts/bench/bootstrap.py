"""How long do the intervals of a table take? Compares posx.results.bootstrap with a loop over replicates.

    .venv/bin/python scripts/bench/bootstrap.py > results/bench/bootstrap.md

The two sides alternate; medians of their times and of the ratios are printed. The loop is the textbook version: it
draws documents with replacement and divides the sums. It does less: no seeds, and no simultaneous intervals.
"""

from __future__ import annotations

import argparse
import platform
import time
from statistics import median

import numpy as np

from posx.results.bootstrap import REPLICATES, Replicates

ROUNDS = 5
SHAPES = [(40, 5, 26), (40, 5, 250), (200, 10, 250)]  # cells, seeds, documents
PLAIN_REPLICATES = 500  # the time, which grows with the number of replicates, is scaled up


def table(cells: int, seeds: int, documents: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Counts [documents], and for each cell an array of differences of nats [seeds, documents]."""
    random = np.random.default_rng(0)
    counts = random.integers(20, 200, documents).astype(float)
    return counts, [random.normal(0.0, 0.1, (seeds, documents)) * counts for _ in range(cells)]


def plain(counts: np.ndarray, sums: list[np.ndarray], size: int) -> np.ndarray:
    """Replicates [size, cells], computed one at a time."""
    random = np.random.default_rng(1)
    out = np.empty((size, len(sums)))
    for replicate in range(size):
        drawn = random.integers(len(counts), size=len(counts))
        total = counts[drawn].sum()
        for cell, values in enumerate(sums):
            out[replicate, cell] = values[:, drawn].sum(axis=1).mean() / total
    return out


def seconds(work: object, *arguments: object) -> float:
    """Wall-clock time of one call."""
    began = time.perf_counter()
    work(*arguments)  # type: ignore[operator]
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{REPLICATES:,} replicates; medians of {ROUNDS} alternating rounds on {platform.machine()}, one thread.\n")
    print("| cells | seeds | documents | posx.results.bootstrap | loop over replicates | ratio |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for shape in SHAPES:
        counts, sums = table(*shape)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(seconds(lambda c=counts, s=sums: Replicates(c, s).intervals()))
            theirs.append(seconds(plain, counts, sums, PLAIN_REPLICATES) * REPLICATES / PLAIN_REPLICATES)
        ratio = median(b / a for a, b in zip(ours, theirs, strict=True))
        cells, seeds, documents = shape
        print(f"| {cells} | {seeds} | {documents} | {median(ours):.2f} s | {median(theirs):.1f} s | {ratio:.0f}x |")


if __name__ == "__main__":
    main()
