"""posx recommend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import ConfigDir, Json, RunsDir, Trust, command, dir_flag, display, next_step, runs_and_overrides
from posx.config.catalog import Catalog
from posx.errors import PosxError

TARGETS = 1024  # by default: enough to rank extensions; override eval.max_targets for more


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
    chosen = {"eval.split": "validation", "eval.max_targets": str(TARGETS)}
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
