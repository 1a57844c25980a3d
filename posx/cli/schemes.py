"""posx schemes."""

from __future__ import annotations

from posx.cli.options import ConfigDir, Json, Names, Trust, command, emit, next_step
from posx.config.catalog import Catalog


@command("schemes")
def schemes(names: Names = None, json: Json = False, config_dir: ConfigDir = None, trust: Trust = False) -> None:
    """List the positional schemes, or describe some."""
    from posx import api

    emit(api.schemes(names or [], catalog=Catalog(config_dir, trust)), json)
    next_step(f"posx train --scheme {names[0] if names else 'NAME'}")
