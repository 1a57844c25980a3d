"""posx sweep."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import ConfigDir, Overrides, RunsDir, Trust, command, dir_flag, display, next_step
from posx.config.catalog import Catalog


@command("sweep")
def sweep(
    sweep: Annotated[str, typer.Argument(help="quick, another name from configs/sweep, or a YAML file.")],
    overrides: Overrides = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Jobs at a time; chosen by the machine if left out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the jobs; run none.")] = False,
    finetune: Annotated[bool, typer.Option("--finetune/--no-finetune", help="The file's fine-tunes too.")] = True,
    from_bundle: Annotated[
        list[Path] | None,
        typer.Option(help="A bundle whose finished jobs are not run again, such as results/NAME. Repeatable."),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Train and evaluate many schemes; a second call does only what is missing.

    posx sweep quick
    """
    catalog = Catalog(config_dir, trust)
    from posx import api
    from posx.sweeps.bundles import check_bundles

    bundles = from_bundle or []
    check_bundles(bundles)  # before the corpora are prepared
    with display() as shown:
        plan = api.plan_sweep(sweep, overrides or [], finetune=finetune, progress=shown, catalog=catalog)
        if dry_run:
            from posx.sweeps.dashboard import show_jobs
            from posx.sweeps.run import make_jobs

            show_jobs(plan, make_jobs(plan, runs_dir, bundles, shown.say))
            next_step("the same command without --dry-run")
            return
        table = api.sweep(plan, runs_dir=runs_dir, workers=workers, bundles=bundles, progress=shown)
    from posx.reporting.summary import write_results

    write_results(table.records, runs_dir / plan.name, shown)
    for job in table.failed:
        shown.say(f"{job.name} failed: {job.last_words} (log: {job.log})")
    if table.failed:
        shown.say(
            f"{len(table.failed)} of {len(plan.jobs)} jobs failed. The same command tries them again, and only them."
        )
        raise typer.Exit(1)
    from posx.runs.directory import is_run

    here = [job.name for job in plan.jobs if is_run(runs_dir / job.name)]
    if here:
        next_step(f"posx eval {here[-1]} --length 3000{dir_flag(runs_dir)}, posx train --help for a run of your own")
    else:  # every job is in a bundle, without its weights
        next_step(f"posx report {shlex.join(map(str, bundles))}, posx train --help for a run of your own")
