"""posx config."""

from __future__ import annotations

from typing import Annotated

import typer

from posx.cli.options import ConfigDir, Overrides, Trust, command, next_step
from posx.config.catalog import Catalog


@command("config")
def config(
    overrides: Overrides = None,
    scheme: Annotated[str | None, typer.Option(help="Positional scheme.")] = None,
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Print the config of a run and its evaluation as YAML."""
    from posx import api
    from posx.config.compose import as_overrides, key_of

    print(api.config_text(scheme, overrides or [], catalog=Catalog(config_dir, trust)), end="")
    texts = as_overrides([("--scheme", "scheme", scheme)], overrides or [])
    next_step(f"posx train {' '.join(text for text in texts if not key_of(text).startswith('eval.'))}".rstrip())
