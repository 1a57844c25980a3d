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
from posx.errors import PosxError


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
    from posx.config.compose import as_overrides, compose_eval

    names, overrides = runs_and_overrides(arguments, runs_dir)
    from posx.config.schema import TABLED

    configs = []
    for one in TABLED if protocol == "all" else [protocol]:
        flags = [
            ("--length", "eval.lengths", length),
            ("--extension", "eval.extensions", extension),
            ("--protocol", "eval.protocol", one),
        ]
        configs.append(compose_eval(as_overrides(flags, overrides), catalog))
    from posx.config.lengths import comparable
    from posx.evaluation.evaluate import evaluate_all, nothing_computed
    from posx.evaluation.plan import make_plan
    from posx.results.aggregate import aggregate
    from posx.runs import directory as runs

    chosen = [runs.find_run(runs_dir, n) for n in names] or [runs.newest_finished(runs_dir)]
    contexts = [run.config.base_context for run in chosen]
    plans = [make_plan(run, comparable(c, contexts), catalog) for run in chosen for c in configs]
    with display() as shown:
        if not names:
            shown.say(f"The newest finished run is {chosen[0].name}.")
        records, refused = [], []
        for plan in plans:
            try:
                found = evaluate_all(plan, shown)
                records += found
                error = nothing_computed(plan, found)
            except PosxError as failure:
                error = failure
            if error is not None:
                refused.append(error)
                if len(plans) > 1:
                    shown.say(str(error))
        if len(refused) == len(plans):
            raise refused[0]
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
