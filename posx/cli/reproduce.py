"""posx reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import ConfigDir, RunsDir, Trust, command, dir_flag, display, next_step
from posx.config.catalog import Catalog


@command("reproduce")
def reproduce(
    cell: Annotated[
        str, typer.Argument(metavar="CELL", help="The key of a cell (shown by posx report), or a record's path.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands; run nothing.")] = False,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Also train the model again, in a temporary folder.")
    ] = False,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Print the commands behind a number and run them again.

    The evaluation runs again, and its result is compared with the record.

    posx reproduce 3f2a91bc
    """
    from posx import api

    catalog = Catalog(config_dir, trust)
    record = api.find_record(runs_dir, cell)
    commands = api.reproduction_commands(record, runs_dir, catalog)
    for line in [*commands.train, commands.evaluate]:
        print(line)
    if dry_run:
        next_step("the same command without --dry-run")
        return
    with display() as progress:
        repeated, gap = api.reproduce(record, from_scratch=from_scratch, progress=progress, catalog=catalog)
    nats = repeated.nats_per_token
    value = "no number, for the same reason" if nats is None else f"{nats:.6f} nats/token"
    print(f"The same: {value} (difference {gap:+.1e}).")
    next_step(f"posx table{dir_flag(runs_dir)}")
