"""posx search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import (
    ConfigDir,
    Json,
    Output,
    RunsDir,
    Trust,
    command,
    dir_flag,
    display,
    emit,
    next_step,
    one_run,
    reject_settings,
)
from posx.config.catalog import Catalog
from posx.errors import PosxError, unknown

EXAMPLE = "posx search longrope RUN --length 4x"


@command("search")
def search(
    target: Annotated[str, typer.Argument(metavar="longrope", help="What to search for: longrope.")] = "",
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [OVERRIDES]...", help="A run, by name or path (default: the newest); eval.* settings."
        ),
    ] = None,
    length: Annotated[str, typer.Option(help="Tokens (3000) or a multiple of the base context (4x).")] = "",
    evaluations: Annotated[int, typer.Option(help="Number of candidates to score.")] = 64,
    output: Output = None,
    json: Json = False,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Search LongRoPE factors for a run and a length.

    The search scores candidates on the validation split, and writes the best to RUN/longrope-LENGTH.yaml. Ctrl-C ends
    it and writes the best so far. eval.seed=1 searches on other targets, eval.max_targets=1024 on more.

    posx search longrope rope-tiny-64-seed0 --length 4x
    """
    from posx import api
    from posx.utils.shell import shell

    if not target:
        raise PosxError("Missing what to search for.", f"Try {EXAMPLE}.")
    if target != "longrope":
        raise unknown("search", target, ["longrope"])
    run, name, overrides = one_run(arguments, runs_dir, EXAMPLE)
    if not length:
        raise PosxError("Missing --length.", "For example: --length 3000 or --length 4x.")
    reject_settings(
        "posx search",
        overrides,
        {
            "eval.lengths": "Use --length.",
            "eval.extensions": "The search has its own starting points.",
            "eval.protocol": "The search scores the same targets each time, as fixed-targets does.",
            "eval.split": "The search uses the validation split, since it selects.",
        },
    )
    if output is not None and output.is_dir():
        raise PosxError(f"{output} is a directory.", "Give -o the name of a file.")
    catalog = Catalog(config_dir, trust)
    with display() as progress:
        result = api.search_longrope(
            run, length, overrides, evaluations=evaluations, progress=progress, catalog=catalog
        )
        path = output or run.path / f"longrope-{result.length}.yaml"
        emit(api.save_search(result, path), json)
        if result.stopped:
            progress.say(
                f"Stopped after {len(result.history)} of {evaluations} evaluations. {path} has the best of them."
            )
            raise typer.Exit(128 + result.stopped)
    line = shell(["posx", "eval", name, "--length", str(result.length), "--extension", f"longrope(factors={path})"])
    next_step(f"{line}{dir_flag(runs_dir)}")
