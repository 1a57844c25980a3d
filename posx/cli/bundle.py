"""posx bundle."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import RunsDir, command, display, next_step
from posx.errors import PosxError


@command("bundle")
def bundle(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUNS_DIR | BUNDLE | SWEEP.yaml | RUN]...",
            help="Default: all runs of --runs-dir. With a sweep file: its jobs, found in these folders or --runs-dir.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Output folder, such as results/NAME.")] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Pack runs into a few files to commit, without weights.

    posx table, plot, report, compare and reproduce read a bundle as they read runs, with the same numbers:
    posx table results/NAME. posx sweep --from-bundle does not run its finished jobs again.
    """
    from posx import api

    if output is None:
        raise PosxError("Missing -o.", "Name the folder to write: -o results/NAME.")
    with display() as progress:
        bundled = api.bundle(output, runs or [], runs_dir=runs_dir, progress=progress)
    print(output)
    for name in bundled.left_out:
        print(f"Left out, since it has no evaluations: {name}.", file=sys.stderr)
    for name in bundled.unfinished:
        print(f"Unfinished: {name}.", file=sys.stderr)
    print(f"{len({r.run for r in bundled.records})} runs, {len(bundled.records)} evaluations.", file=sys.stderr)
    next_step(f"posx table {shlex.quote(str(output))}")
