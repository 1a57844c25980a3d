"""posx report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import Runs, RunsDir, command, display, next_step
from posx.errors import PosxError


@command("report")
def report(
    runs: Runs = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to. [RUNS_DIR/report.html]")] = None,
    title: Annotated[str, typer.Option(help="Its heading.")] = "",
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """One self-contained HTML page: question, set-up, tables with verdicts, all plots, costs, and every config.

    It needs no network and no script; tables can be sorted where scripts run.
    """
    from posx.results.records import read_records

    records = read_records(runs_dir, runs or [])
    from posx.reporting.page import write_report  # imports torch: only where there is something to report

    target = output or runs_dir / "report.html"
    if target.is_dir():
        raise PosxError(f"{target} is a directory.", "Name a file: -o report.html.")
    with display() as shown:
        write_report(records, runs_dir, target, title, shown.say)
    print(target)
    next_step(f"open {target} in a browser")
