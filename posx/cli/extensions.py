"""posx extensions."""

from __future__ import annotations

from typing import Annotated

import typer

from posx.cli.options import ConfigDir, Json, Names, Trust, command, next_step
from posx.config.catalog import Catalog


@command("extensions")
def extensions(
    names: Names = None,
    matrix: Annotated[bool, typer.Option("--matrix", help="Show which extension fits which scheme.")] = False,
    json: Json = False,
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """List the test-time extensions, or describe some of them."""
    catalog = Catalog(config_dir, trust)
    if matrix:
        from posx.analysis.catalog_details import show_matrix

        show_matrix(names or [], json, catalog)
    elif names:
        from posx.analysis.catalog_details import show_extensions

        show_extensions(names, json, catalog)
    else:
        from posx.analysis.catalog_pages import list_extensions

        list_extensions(json, catalog)
    next_step(f"posx eval --extension {names[0] if names else 'NAME'} --length 4x")
