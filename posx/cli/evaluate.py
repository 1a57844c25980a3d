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

RECOMMEND_TARGETS = 1024  # enough to tell extensions apart; eval.max_targets asks for more


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


@command("recommend")
def recommend(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN | OVERRIDES", help="A run, by name or path; eval.* settings."),
    ] = None,
    length: Annotated[str, typer.Option(help="Tokens (3000) or a multiple of the base context (4x).")] = "",
    json: Json = False,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Which extension for this length? Tries the fitting ones on validation and ranks them. Default: newest run.

    posx recommend rope-tiny-64-seed0 --length 3000
    """
    catalog = Catalog(config_dir, trust)
    from posx.config.compose import compose_eval

    names, overrides = runs_and_overrides(arguments, runs_dir)
    if len(names) > 1:
        raise PosxError(f"One run at a time, but {len(names)} were given.", "posx recommend RUN --length 4x.")
    if not length:
        raise PosxError("For which length?", "Add --length 3000, or --length 4x.")
    given = {o.lstrip("+").partition("=")[0] for o in overrides}
    for key, instead in (("eval.lengths", "--length"), ("eval.extensions", "none: all that fit are tried")):
        if key in given:
            raise PosxError(f"posx recommend takes no {key}.", f"Use {instead}.")
    chosen = {"eval.split": "validation", "eval.max_targets": str(RECOMMEND_TARGETS)}
    added = [f"{key}={value}" for key, value in chosen.items() if key not in given]
    config = compose_eval([*added, *overrides], catalog)
    from posx.evaluation.recommend import recommend as rank
    from posx.reporting.recommend_page import page
    from posx.runs import directory as runs

    run = runs.find_run(runs_dir, names[0]) if names else runs.newest_finished(runs_dir)
    with display() as shown:
        if not names:
            shown.say(f"The newest finished run is {run.name}.")
        name = names[0] if names else run.name
        choices, records = rank(run, name, length, config, shown, catalog)
    if json:
        import json as json_format

        from posx.results.records import as_json

        rows = [
            as_json(c.record)
            | {
                "nats_per_token": c.record.nats_per_token,
                "behind": c.behind,
                "interval": list(c.interval.family) if c.interval else None,
                "line": c.line,
            }
            for c in choices
        ]
        print(json_format.dumps(rows, indent=1, ensure_ascii=False))
    else:
        from posx.reporting.formats.terminal import show_page
        from posx.utils.console import to_stdout

        show_page(page(choices, records), to_stdout())
        print(f"Use: {choices[0].line}{dir_flag(runs_dir)}")
    next_step(f"{choices[0].line}{dir_flag(runs_dir)}")
