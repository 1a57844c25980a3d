"""Sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from posx.api.arguments import OnProgress, Overrides, check_list, check_path, describe
from posx.api.results import Table
from posx.config.catalog import PACKAGED, Catalog
from posx.errors import PosxError
from posx.utils.progress import as_display

if TYPE_CHECKING:  # for start-up time: these import torch
    from rich.table import Table as RichTable

    from posx.sweeps.plan import Sweep


def sweep(
    path: Path | str | Sweep,
    overrides: Overrides = (),
    *,
    runs_dir: Path | str = "runs",
    workers: int | None = None,
    bundles: Sequence[Path | str] = (),
    progress: OnProgress = None,
) -> Table:
    """Train and evaluate all runs of a sweep file, in separate processes. Finished jobs are not run again.

    ``path`` is a YAML file, the name of a packaged one ("quick"), or what :func:`plan_sweep` returned, which takes a
    catalog. ``workers`` jobs run at a time; the default depends on the machine. A job that fails does not
    stop the others and is in ``failed``. A job that one of ``bundles`` (folders that ``posx bundle`` wrote) holds with
    every requested evaluation is not run: its records are read from there. Call it in the main thread: it handles
    signals. Raises PosxError.
    """
    from posx.sweeps.plan import Sweep
    from posx.sweeps.run import run_sweep

    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise PosxError(f"workers must be a positive whole number, not {describe(workers)}.", "Example: workers=2.")
    folders = [Path(bundle) for bundle in check_list("bundles", bundles, '["results/NAME"]')]
    display = as_display(progress)
    plan = path if isinstance(path, Sweep) else plan_sweep(path, overrides, progress=display)
    records, jobs = run_sweep(plan, check_path(runs_dir), workers, display, folders)
    return Table(records, [job for job in jobs if job.state != "done"])


def plan_sweep(
    path: Path | str,
    overrides: Overrides = (),
    *,
    finetune: bool = True,
    progress: OnProgress = None,
    catalog: Catalog = PACKAGED,
) -> Sweep:
    """The jobs of a sweep, composed and checked; ``finetune`` includes fine-tuning jobs. Raises PosxError."""
    from posx.config.compose import as_overrides
    from posx.models.python_values import as_texts
    from posx.sweeps.file import find_sweep
    from posx.sweeps.plan import read_sweep

    file = find_sweep(str(check_path(path)), catalog)
    texts = as_overrides([], as_texts(overrides, catalog))
    return read_sweep(file, texts, as_display(progress).say, catalog, finetune)


def list_jobs(
    plan: Sweep, runs_dir: Path | str = "runs", bundles: Sequence[Path | str] = (), progress: OnProgress = None
) -> RichTable:
    """The jobs of a sweep, and which of them are left to run; nothing is run. Raises PosxError."""
    from posx.sweeps.dashboard import jobs_table
    from posx.sweeps.run import make_jobs

    jobs = make_jobs(plan, Path(runs_dir), [Path(bundle) for bundle in bundles], as_display(progress).say)
    return jobs_table(plan, jobs)


def check_bundles(bundles: Sequence[Path | str]) -> None:
    """Raise PosxError if one of these is not a bundle that can be read."""
    from posx.sweeps.bundles import check_bundles as check

    check([Path(bundle) for bundle in bundles])


def trained_runs(plan: Sweep, runs_dir: Path | str = "runs") -> list[str]:
    """The names of the jobs of a sweep that are runs in this directory."""
    from posx.runs.directory import is_run

    return [job.name for job in plan.jobs if is_run(Path(runs_dir) / job.name)]


def write_results(table: Table, stem: Path | str) -> list[Path]:
    """Write the table as ``stem``.md and .json, and all plots that its records allow; return the files."""
    from posx.reporting.summary import write_results

    return write_results(table.records, Path(stem))
