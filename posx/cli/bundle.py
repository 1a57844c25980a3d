"""posx bundle."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posx.cli.options import RunsDir, command, display, next_step
from posx.errors import PosxError

if TYPE_CHECKING:  # for start-up time
    from posx.results.records import Record


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

    Tables, plots, reports and posx reproduce read a bundle as they read runs, with the same numbers:
    posx table results/NAME. posx sweep --from-bundle does not run its finished jobs again.
    """
    from posx.results.bundle import write_bundle
    from posx.results.records import read_records

    if output is None:
        raise PosxError("Missing -o.", "Name the folder to write: -o results/NAME.")
    names = runs or []
    sweeps = [name for name in names if Path(name).suffix in (".yaml", ".yml")]
    if len(sweeps) > 1:
        raise PosxError("A bundle holds one sweep.", "Name one sweep file.")
    others = [name for name in names if name not in sweeps]
    folders = [Path(name) for name in others if _holds_runs(Path(name))]
    chosen = [name for name in others if Path(name) not in folders]
    if sweeps:
        paths = _jobs(Path(sweeps[0]), [*folders, runs_dir])
    else:
        paths = _all_runs(folders or [runs_dir]) if folders or not others else []
    paths += [_run(name, [*folders, runs_dir]) for name in chosen]
    paths = sorted(dict.fromkeys(paths), key=lambda path: path.name)  # as a folder of runs is read
    records = read_records(runs_dir, [str(path) for path in paths])
    files = _pages(records)
    if sweeps and not chosen:  # with other runs, the file would not say what the bundle holds
        files["sweep.yaml"] = Path(sweeps[0]).read_text("utf-8")
    write_bundle(records, output, files)
    print(output)
    _say_what_is_missing(paths, {record.path.parent.parent for record in records if record.path})
    print(f"{len({r.run for r in records})} runs, {len(records)} evaluations.", file=sys.stderr)
    next_step(f"posx table {shlex.quote(str(output))}")


def _pages(records: list[Record]) -> dict[str, str]:
    """The table and the picture."""
    from posx.reporting.formats import render
    from posx.reporting.grouping import choose
    from posx.reporting.plots import svg
    from posx.reporting.plots.base import NothingToDraw
    from posx.results.aggregate import aggregate

    cells = choose(aggregate(records), None)
    files = {"table.md": render(cells, "md")}
    with suppress(NothingToDraw):
        files["perplexity.svg"] = svg("length", cells, None).decode()
    return files


def _holds_runs(folder: Path) -> bool:
    """Whether this is a bundle, or a folder that is not itself a run and has runs."""
    from posx.runs.bundle_runs import is_bundle
    from posx.runs.directory import is_run, run_folders

    return is_bundle(folder) or (not is_run(folder) and bool(run_folders(folder)))


def _all_runs(folders: list[Path]) -> list[Path]:
    from posx.runs.directory import run_folders

    paths = [path for folder in folders for path in run_folders(folder)]
    if not paths:
        raise PosxError(f"There are no runs in {', '.join(map(str, folders))}.", "Start with: posx sweep quick.")
    return paths


def _run(name: str, folders: list[Path]) -> Path:
    """A run by its name in one of the folders, or by its path. Raises PosxError."""
    from posx.runs.directory import find_run, is_run

    return next((folder / name for folder in folders if is_run(folder / name)), None) or find_run(folders[0], name).path


def _jobs(sweep: Path, folders: list[Path]) -> list[Path]:
    """The runs of a sweep, each in the first folder that has it. Raises PosxError if one is missing."""
    from posx.config.catalog import PACKAGED
    from posx.runs.directory import is_run
    from posx.sweeps.file import find_sweep
    from posx.sweeps.plan import read_sweep

    with display() as shown:
        jobs = read_sweep(find_sweep(str(sweep), PACKAGED), [], shown.say, PACKAGED).jobs
    paths = [next((folder / job.name for folder in folders if is_run(folder / job.name)), None) for job in jobs]
    missing = [job.name for job, path in zip(jobs, paths, strict=True) if path is None]
    if missing:
        raise PosxError(
            f"{len(missing)} of {len(jobs)} jobs of {sweep} are not in {', '.join(map(str, folders))}, "
            f"such as {missing[0]}.",
            f"Run them: posx sweep {shlex.quote(str(sweep))}, or name the bundles that hold them.",
        )
    return [path for path in paths if path is not None]


def _say_what_is_missing(paths: list[Path], evaluated: set[Path]) -> None:
    """Name runs that are left out or unfinished, on standard error."""
    from posx.runs.directory import stored_meta

    left_out = [path.name for path in paths if path not in evaluated]
    unfinished = [path.name for path in paths if path in evaluated and not stored_meta(path).get("finished")]
    for what, names in (("Left out, since it was not evaluated", left_out), ("Unfinished", unfinished)):
        for name in names:
            print(f"{what}: {name}.", file=sys.stderr)
