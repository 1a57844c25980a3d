"""posx eval."""

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
    next_step,
    runs_and_overrides,
)
from posx.config.catalog import Catalog


@command("eval")
def evaluate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN | OVERRIDES", help="Runs, by name or path; eval.* settings."),
    ] = None,
    length: Annotated[
        list[str] | None,
        typer.Option(help="Tokens (3000) or a multiple of the base context (2x); repeatable."),
    ] = None,
    extension: Annotated[
        list[str] | None,
        typer.Option(help="Test-time extension: none, pi, ntk+window, pi(s=4) …; repeatable. [as it was trained]"),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="fixed-targets, non-overlapping, stream or curve; all: the first three.")
    ] = None,
    json: Json = False,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Perplexity at other lengths: on the same targets, with the 1x control. Without RUN, the newest finished run.

    posx eval --length 3000 --length 2x --extension none --extension pi
    """
    catalog = Catalog(config_dir, trust)
    from posx import api

    names, overrides = runs_and_overrides(arguments, runs_dir)
    configs = api.compose_evaluations(length, extension, protocol, overrides, catalog)
    from posx.results.aggregate import aggregate
    from posx.runs import directory as runs

    chosen = [runs.find_run(runs_dir, n) for n in names] or [runs.newest_finished(runs_dir)]
    plans = api.plan_evaluations(chosen, configs, catalog)
    with display() as shown:
        if not names:
            shown.say(f"The newest finished run is {chosen[0].name}.")
        records = api.compute(plans, shown)
        if json:
            import json as json_format

            from posx.results.records import as_json

            print(json_format.dumps([as_json(r) for r in records], indent=1, ensure_ascii=False))
        else:
            from posx.reporting.formats.terminal import show
            from posx.utils.console import to_stdout

            show(aggregate(records), to_stdout(), side_by_side=protocol == "all")
    drawn = "posx plot --kind position" if configs[0].protocol == "curve" else "posx plot"
    next_step(f"posx table{dir_flag(runs_dir)}, {drawn}{dir_flag(runs_dir)}")
