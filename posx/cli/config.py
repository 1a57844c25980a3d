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
    """Print the resolved config of a run and of its evaluation, as YAML."""
    catalog = Catalog(config_dir, trust)
    from posx.config.compose import as_overrides, compose_eval, to_yaml
    from posx.config.schema import EvalRoot
    from posx.models.build import compose_run

    given = as_overrides([("--scheme", "scheme", scheme)], overrides or [])
    to_eval = [o for o in given if o.lstrip("+~").startswith("eval.")]
    run = compose_run([o for o in given if o not in to_eval], catalog)
    print(to_yaml(run) + to_yaml(EvalRoot(compose_eval(to_eval, catalog))), end="")
    next_step(f"posx train {' '.join(o for o in given if o not in to_eval)}".rstrip())
