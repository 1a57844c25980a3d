"""posx report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import Runs, RunsDir, command, display, next_step


@command("report")
def report(
    runs: Runs = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Output path. [RUNS_DIR/report.html]")] = None,
    title: Annotated[str, typer.Option(help="Report title.")] = "",
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Write one self-contained HTML report.

    It has tables with verdicts, all plots, costs, every config, and the commands behind each number. It requires no
    network and no scripts; with scripts, its tables can be sorted.
    """
    from posx import api

    records = api.read_table(runs_dir, runs or [])
    with display() as progress:
        path = api.report(
            records, output or runs_dir / "report.html", title=title, runs_dir=runs_dir, progress=progress
        )
    print(path)
    next_step(f"open {path} in a browser")
