"""What there is: posx schemes, extensions, config, doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from posx.cli.options import ConfigDir, Json, Overrides, Trust, command, next_step
from posx.config.catalog import Catalog

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Show everything about these.")]


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


@command("doctor")
def doctor(json: Json = False) -> None:
    """Say what this machine has, and what posx will choose."""
    from posx.cli.doctor import show_machine

    show_machine(json)
    next_step("posx sweep quick")
