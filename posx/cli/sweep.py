"""posx sweep."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posx.cli.options import ConfigDir, Overrides, RunsDir, Trust, command, dir_flag, display, next_step
from posx.config.catalog import Catalog

if TYPE_CHECKING:  # for start-up time
    from posx.api import Table
    from posx.utils.console import Display


@command("sweep")
def sweep(
    sweep: Annotated[str, typer.Argument(help="A sweep from configs/sweep, such as quick, or a YAML file.")],
    overrides: Overrides = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of jobs at a time. Default: chosen for the machine.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the jobs without running them.")] = False,
    finetune: Annotated[bool, typer.Option("--finetune/--no-finetune", help="Include the fine-tuning jobs.")] = True,
    from_bundle: Annotated[
        list[Path] | None,
        typer.Option(help="A bundle whose finished jobs are not run again, such as results/NAME. Repeatable."),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Train and evaluate all runs of a sweep file.

    A second call runs only what is missing.

    posx sweep quick
    """
    from posx import api
    from posx.utils.console import to_stdout

    catalog = Catalog(config_dir, trust)
    bundles = from_bundle or []
    api.check_bundles(bundles)  # before the corpora are prepared
    with display() as progress:
        plan = api.plan_sweep(sweep, overrides or [], finetune=finetune, progress=progress, catalog=catalog)
        if dry_run:
            to_stdout().print(api.list_jobs(plan, runs_dir, bundles, progress), markup=False)
            next_step("the same command without --dry-run")
            return
        table = api.sweep(plan, runs_dir=runs_dir, workers=workers, bundles=bundles, progress=progress)
        _show_results(table, runs_dir / plan.name, progress)
        for job in table.failed:
            progress.say(f"{job.name} failed: {job.last_words} (log: {job.log})")
        if table.failed:
            progress.say(
                f"{len(table.failed)} of {len(plan.jobs)} jobs failed. Run the same command to retry only these."
            )
            raise typer.Exit(1)
    trained = api.trained_runs(plan, runs_dir)
    if trained:
        next_step(f"posx eval {trained[-1]} --length 3000{dir_flag(runs_dir)}, posx train --help")
    else:  # every job is in a bundle, without its weights
        next_step(f"posx report {shlex.join(map(str, bundles))}, posx train --help")


def _show_results(table: Table, stem: Path, progress: Display) -> None:
    """Print the table, and write it with all plots."""
    from posx import api
    from posx.utils.console import to_stdout

    if not table.records:
        progress.say("No job has finished, so there is no table.")
        return
    console = to_stdout()
    api.Output(None, table.pages(width=console.width if console.file.isatty() else None)).show(console)
    progress.say(f"Wrote {', '.join(map(str, api.write_results(table, stem)))}.")
