"""posx verify."""

from __future__ import annotations

from typing import Annotated

import typer

from posx.cli.options import ConfigDir, Json, Trust, command, display, emit, next_step
from posx.config.catalog import Catalog


@command("verify")
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Schemes and extensions. Default: all.")
    ] = None,
    json: Json = False,
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Check schemes against papers and reference code.

    Each scheme and extension is compared with its paper's formula in float64, and with transformers and x-transformers
    where they implement it (requires: pip install 'posx[verify]'). Each scheme is also checked for causality, equal
    results in blocks, gradients, and distant keys. Exit code 1 if a check fails.

    posx verify rope alibi
    """
    from posx import api

    with display() as progress:
        output = api.verify(names, progress=progress, catalog=Catalog(config_dir, trust))
    emit(output, json)
    if output.failed:
        raise typer.Exit(1)
    next_step("posx schemes")
