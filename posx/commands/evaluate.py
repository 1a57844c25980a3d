"""posx eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posx.commands.base import (
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
from posx.errors import PosxError


@command("eval")
def evaluate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN | OVERRIDES", help="Runs, by name or path; eval.* settings."),
    ] = None,
    length: Annotated[
        list[str] | None,
        typer.Option(help="Tokens (3000) or a multiple of the training context (2x); repeatable."),
    ] = None,
    extension: Annotated[
        list[str] | None,
        typer.Option(help="Test-time extension: none, pi, ntk+window, pi(s=4) …; repeatable."),
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="fixed-targets, non-overlapping or stream.")] = None,
    json: Json = False,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Perplexity at other lengths: on the same targets, with the 1x control. Without RUN, the newest finished run.

    posx eval --length 3000 --length 2x --extension none --extension pi
    """
    from posx.compose import as_overrides, compose_eval

    names, overrides = runs_and_overrides(arguments, runs_dir)
    flags = [
        ("--length", "eval.lengths", length),
        ("--extension", "eval.extensions", extension),
        ("--protocol", "eval.protocol", protocol),
    ]
    config = compose_eval(as_overrides(flags, overrides), config_dir)
    from posx import runs
    from posx.evaluate import evaluate_all, make_plan, nothing_computed
    from posx.statistics import aggregate
    from posx.windows import comparable

    chosen = [runs.find_run(runs_dir, n, trust) for n in names] or [runs.newest_finished(runs_dir, trust)]
    config = comparable(config, [run.config.train.context for run in chosen])
    plans = [make_plan(run, config, config_dir, trust) for run in chosen]
    with display() as shown:
        if not names:
            shown.say(f"The newest finished run is {chosen[0].name}.")
        records, refused = [], []
        for plan in plans:
            try:
                found = evaluate_all(plan, shown, trust)
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
            from dataclasses import asdict

            print(json_format.dumps([asdict(r) for r in records], indent=1, ensure_ascii=False))
        else:
            from posx.progress import to_stdout
            from posx.tables import show

            show(aggregate(records), to_stdout())
    next_step(f"posx table{dir_flag(runs_dir)}, posx plot{dir_flag(runs_dir)}")
