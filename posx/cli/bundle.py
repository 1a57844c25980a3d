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
        typer.Argument(metavar="[RUNS_DIR | SWEEP.yaml | RUN]...", help="Default: all runs of --runs-dir."),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Output folder, such as results/NAME.")] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Pack runs into a few files to commit, without weights.

    Tables, plots, reports and posx reproduce read a bundle as they read runs, with the same numbers:
    posx table results/NAME.
    """
    from posx.reporting.formats import render
    from posx.reporting.grouping import choose
    from posx.results.aggregate import aggregate
    from posx.results.bundle import write_bundle
    from posx.utils.files import write_text

    if output is None:
        raise PosxError("Missing -o.", "Name the folder to write: -o results/NAME.")
    names = runs or []
    sweeps = [name for name in names if Path(name).suffix in (".yaml", ".yml")]
    folders = [name for name in names if name not in sweeps]
    if len(sweeps) > 1:
        raise PosxError("A bundle holds one sweep.", "Name one sweep file.")
    if folders and _holds_runs(Path(folders[0])):
        runs_dir, folders = Path(folders[0]), folders[1:]
    if sweeps:
        folders += _jobs(sweeps[0])
    records = write_bundle(runs_dir, folders, output)
    cells = choose(aggregate(records), None)
    if sweeps:
        write_text(output / "sweep.yaml", Path(sweeps[0]).read_text("utf-8"))
    if cells:
        from posx.reporting.plots import svg

        write_text(output / "table.md", render(cells, "md"))
        write_text(output / "perplexity.svg", svg("length", cells, None).decode())
    print(output)
    print(f"{len({r.run for r in records})} runs, {len(records)} evaluations.", file=sys.stderr)
    next_step(f"posx table {shlex.quote(str(output))}")


def _holds_runs(folder: Path) -> bool:
    from posx.runs.directory import is_run, run_folders

    return not is_run(folder) and bool(run_folders(folder))


def _jobs(sweep: str) -> list[str]:
    """The names of the runs of a sweep."""
    from posx.config.catalog import PACKAGED
    from posx.sweeps.file import find_sweep
    from posx.sweeps.plan import read_sweep

    with display() as shown:
        return [job.name for job in read_sweep(find_sweep(sweep, PACKAGED), [], shown.say, PACKAGED).jobs]
