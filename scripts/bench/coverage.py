"""How often do the intervals of a table contain the true value? Runs the simulation of test_bootstrap_coverage.py.

.venv/bin/python scripts/bench/coverage.py > results/bench/coverage.md
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from fixtures.simulation import CELLS, CROSSED, REPLICATES, SIMULATIONS, Setting, simulate


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(
        f"{SIMULATIONS:,} simulated tables of {CELLS} cells for each row, {REPLICATES:,} replicates each; the true "
        "value is 0 in every cell. Sampling error of each figure: ±0.5%.\n"
    )
    print("| seeds × documents | dominant | cell effects | one cell | whole table | false `uses`: cells | tables |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    settings = [variant for base in CROSSED.values() for variant in (base, replace(base, shared=not base.shared))]
    for setting in [*settings, Setting(1, 30, by_seed=0.0, by_document=1.0)]:
        result = simulate(setting)
        dominant = "documents only" if setting.seeds == 1 else "documents" if setting.by_seed < 0.5 else "seeds"
        print(
            f"| {setting.seeds} × {setting.documents}{', uneven' * setting.uneven} | {dominant} | "
            f"{'shared' if setting.shared else 'independent'} | {result.first:.1%} | {result.family:.1%} | "
            f"{result.uses:.1%} | {result.any_uses:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
