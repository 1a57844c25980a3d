"""posx recommend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import (
    ConfigDir,
    Json,
    RunsDir,
    Trust,
    command,
    dir_flag,
    display,
    emit,
    next_step,
    one_run,
    reject_settings,
)
from posx.config.catalog import Catalog
from posx.errors import PosxError


@command("recommend")
def recommend(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [OVERRIDES]...", help="A run, by name or path (default: the newest); eval.* settings."
        ),
    ] = None,
    length: Annotated[str, typer.Option(help="Tokens (3000) or a multiple of the base context (4x).")] = "",
    json: Json = False,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Rank the extensions for a run at a longer length.

    Every extension that supports the scheme is evaluated on the validation split.

    posx recommend rope-tiny-64-seed0 --length 3000
    """
    from posx import api

    run, name, overrides = one_run(arguments, runs_dir, "posx recommend RUN --length 4x")
    if not length:
        raise PosxError("Missing --length.", "For example: --length 3000 or --length 4x.")
    reject_settings(
        "posx recommend",
        overrides,
        {"eval.lengths": "Use --length.", "eval.extensions": "All that support the scheme are evaluated."},
    )
    catalog = Catalog(config_dir, trust)
    with display() as progress:
        output = api.recommend(run, length, overrides, name=name, progress=progress, catalog=catalog)
    emit(output, json)
    best = f"{output.values[0]['line']}{dir_flag(runs_dir)}"
    if not json:
        print(f"Use: {best}")
    next_step(best)
