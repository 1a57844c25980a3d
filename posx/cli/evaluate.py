"""posx eval."""

from __future__ import annotations

import sys
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
    next_step,
    print_json,
    runs_and_overrides,
)
from posx.config.catalog import Catalog


@command("eval")
def evaluate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN | OVERRIDES]...",
            help="Runs, by name or path (default: the newest that supports the request); eval.* settings.",
        ),
    ] = None,
    length: Annotated[
        list[str] | None,
        typer.Option(help="Tokens (3000) or a multiple of the base context (2x); repeatable."),
    ] = None,
    extension: Annotated[
        list[str] | None,
        typer.Option(
            help="Test-time extension: none, pi, ntk+window, pi(s=4) …; repeatable. Default: as the model was trained."
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="fixed-targets, non-overlapping, stream or curve; all: the first three.")
    ] = None,
    json: Json = False,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Evaluate perplexity at other lengths.

    The same targets are scored at every length, and at 1x as a control.

    posx eval --length 3000 --length 2x --extension none --extension pi
    """
    from posx import api

    catalog = Catalog(config_dir, trust)
    names, overrides = runs_and_overrides(arguments, runs_dir)
    configs = api.compose_evaluations(length, extension, protocol, overrides, catalog)
    if names:
        plans = api.plan_evaluations([api.find_run(runs_dir, name) for name in names], configs, catalog)
    else:
        plans = api.plan_newest(runs_dir, configs, catalog)
        print(f"Using the newest run that supports this, {plans[0].run.name}.", file=sys.stderr)
    with display() as progress:
        records = api.compute(plans, progress)
    if json:
        print_json(api.record_rows(records))
    else:
        from posx.utils.console import to_stdout

        console = to_stdout()
        width = console.width if console.file.isatty() else None
        api.Output(None, api.Table(records).all_pages(protocol == "all", width)).show(console)
    plot = "posx plot --kind position" if configs[0].protocol == "curve" else "posx plot"
    next_step(f"posx table{dir_flag(runs_dir)}, {plot}{dir_flag(runs_dir)}")
