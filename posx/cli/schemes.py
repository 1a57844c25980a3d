"""posx schemes."""

from __future__ import annotations

from posx.cli.options import ConfigDir, Json, Names, Trust, command, next_step
from posx.config.catalog import Catalog


@command("schemes")
def schemes(names: Names = None, json: Json = False, config_dir: ConfigDir = None, trust: Trust = False) -> None:
    """List the positional schemes, or describe some of them."""
    catalog = Catalog(config_dir, trust)
    if names:
        from posx.analysis.catalog_details import show_schemes

        show_schemes(names, json, catalog)
    else:
        from posx.analysis.catalog_pages import list_schemes

        list_schemes(json, catalog)
    next_step(f"posx train --scheme {names[0] if names else 'NAME'}")
