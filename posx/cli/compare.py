"""posx compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import Json, RunsDir, command, dir_flag, emit, next_step


@command("compare")
def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="A run, or a row of seeds by its label; rope:pi is rope with pi.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The run or row to compare A with.")],
    length: Annotated[
        list[str] | None,
        typer.Option(help="Tokens or a multiple of the base context; repeatable. Default: all common lengths."),
    ] = None,
    protocol: Annotated[str, typer.Option(help="fixed-targets, non-overlapping or stream.")] = "fixed-targets",
    json: Json = False,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Compare two runs, schemes or extensions, paired.

    The difference in nats/token on the same targets, with 95% intervals.

    posx compare rope:ntk rope:pi --length 4x
    """
    from posx import api

    emit(api.compare(a, b, length or [], protocol=protocol, runs_dir=runs_dir), json)
    next_step(f"posx table{dir_flag(runs_dir)}")
