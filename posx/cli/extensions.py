"""posx extensions."""

from __future__ import annotations

from typing import Annotated

import typer

from posx.cli.options import ConfigDir, Json, Names, Trust, command, emit, next_step
from posx.config.catalog import Catalog


@command("extensions")
def extensions(
    names: Names = None,
    matrix: Annotated[bool, typer.Option("--matrix", help="Show which schemes each extension supports.")] = False,
    json: Json = False,
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """List the test-time extensions, or describe some."""
    from posx import api

    emit(api.extensions(names or [], matrix=matrix, catalog=Catalog(config_dir, trust)), json)
    next_step(f"posx eval --extension {names[0] if names else 'NAME'} --length 4x")
