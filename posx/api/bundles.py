"""Bundles of finished runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from posx.api.arguments import OnProgress, check_list, check_path
from posx.errors import PosxError
from posx.results.records import Record
from posx.utils.progress import as_display


@dataclass(frozen=True)
class Bundled:
    """The content of a new bundle, and the names of runs without evaluations (left out) and of unfinished runs."""

    records: list[Record]
    left_out: list[str]
    unfinished: list[str]


def bundle(
    path: Path | str, names: Sequence[str] = (), *, runs_dir: Path | str = "runs", progress: OnProgress = None
) -> Bundled:
    """Pack runs into a few files in the folder ``path``, without weights. Raises PosxError.

    ``names`` are runs, folders of runs, bundles, and at most one sweep file, of which all jobs are packed; by default
    all runs of ``runs_dir``.
    """
    from posx.results.bundle import write_bundle
    from posx.results.records import read_records
    from posx.runs.directory import stored_meta

    runs_dir = check_path(runs_dir)
    names = check_list("names", names, '["rope"]')
    sweeps = [name for name in names if Path(name).suffix in (".yaml", ".yml")]
    if len(sweeps) > 1:
        raise PosxError("A bundle holds one sweep.", "Name one sweep file.")
    others = [name for name in names if name not in sweeps]
    folders = [Path(name) for name in others if _holds_runs(Path(name))]
    single = [name for name in others if Path(name) not in folders]
    if sweeps:
        paths = _jobs(Path(sweeps[0]), [*folders, runs_dir], progress)
    else:
        paths = _all_runs(folders or [runs_dir]) if folders or not others else []
    paths += [_run(name, [*folders, runs_dir]) for name in single]
    paths = sorted(dict.fromkeys(paths), key=lambda path: path.name)  # as a folder of runs is read
    records = read_records(runs_dir, [str(path) for path in paths])
    files = _pages(records)
    if sweeps and not single:  # with other runs, the file would not describe the bundle
        files["sweep.yaml"] = Path(sweeps[0]).read_text("utf-8")
    write_bundle(records, check_path(path), files)
    evaluated = {record.path.parent.parent for record in records if record.path}
    return Bundled(
        records,
        [path.name for path in paths if path not in evaluated],
        [path.name for path in paths if path in evaluated and not stored_meta(path).get("finished")],
    )


def _pages(records: list[Record]) -> dict[str, str]:
    """The table and the plot, as the content of files."""
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
    """Whether this is a bundle, or a folder that contains runs and is not a run itself."""
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


def _jobs(sweep: Path, folders: list[Path], progress: OnProgress) -> list[Path]:
    """The runs of a sweep, each in the first folder that has it. Raises PosxError if one is missing."""
    from posx.config.catalog import PACKAGED
    from posx.runs.directory import is_run
    from posx.sweeps.file import find_sweep
    from posx.sweeps.plan import read_sweep

    jobs = read_sweep(find_sweep(str(sweep), PACKAGED), [], as_display(progress).say, PACKAGED).jobs
    paths = [next((folder / job.name for folder in folders if is_run(folder / job.name)), None) for job in jobs]
    missing = [job.name for job, path in zip(jobs, paths, strict=True) if path is None]
    if missing:
        raise PosxError(
            f"{len(missing)} of {len(jobs)} jobs of {sweep} are not in {', '.join(map(str, folders))}, "
            f"such as {missing[0]}.",
            f"Run them: posx sweep {shlex.quote(str(sweep))}, or name the bundles that hold them.",
        )
    return [path for path in paths if path is not None]
