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
    next_step,
    runs_and_overrides,
)
from posx.config.catalog import Catalog
from posx.errors import PosxError, unknown

TARGETS = 256  # of the search, and as many held out; eval.max_targets asks for more
EXAMPLE = "posx search longrope RUN --length 4x."


@command("search")
def search(
    what: Annotated[str, typer.Argument(metavar="longrope", help="What to search for: longrope.")] = "",
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN | OVERRIDES", help="A run, by name or path; eval.* settings."),
    ] = None,
    length: Annotated[str, typer.Option(help="Tokens (3000) or a multiple of the base context (4x).")] = "",
    evaluations: Annotated[int, typer.Option(help="How many candidates are scored.")] = 64,
    output: Output = None,
    json: Json = False,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Search longrope's factors for a run and a length, on validation. Writes RUN/longrope-LENGTH.yaml.

    posx search longrope rope-tiny-64-seed0 --length 4x

    Ctrl-C keeps the best so far. eval.seed=1 is another search on other targets, eval.max_targets=1024 a slower one.
    """
    catalog = Catalog(config_dir, trust)
    from posx.config.compose import compose_eval

    if not what:
        raise PosxError("Search for what?", EXAMPLE)
    if what != "longrope":
        raise unknown("search", what, ["longrope"])
    names, overrides = runs_and_overrides(arguments, runs_dir)
    if len(names) > 1:
        raise PosxError(f"One run at a time, but {len(names)} were given.", EXAMPLE)
    if not length:
        raise PosxError("For which length?", "Add --length 3000, or --length 4x.")
    given = {o.lstrip("+~").partition("=")[0] for o in overrides}
    for key, instead in (
        ("eval.lengths", "Use --length."),
        ("eval.extensions", "The search has its own to start from."),
        ("eval.protocol", "The search scores the same targets each time: fixed-targets."),
        ("eval.split", "The search chooses, so it looks at validation alone."),
    ):
        if key in given:
            raise PosxError(f"posx search takes no {key}.", instead)
    chosen = {"eval.split": "validation", "eval.max_targets": str(TARGETS)}
    added = [f"{key}={value}" for key, value in chosen.items() if key not in given]
    config = compose_eval([*added, *overrides], catalog)
    if output is not None and output.is_dir():
        raise PosxError(f"{output} is a directory.", "Give -o the name of a file.")
    from posx.evaluation.longrope_search import as_dict, write
    from posx.evaluation.longrope_search import search as find
    from posx.reporting.search_page import page
    from posx.runs import directory as runs
    from posx.utils.shell import shell

    run = runs.find_run(runs_dir, names[0]) if names else runs.newest_finished(runs_dir)
    with display() as shown:
        if not names:
            shown.say(f"The newest finished run is {run.name}.")
        found = find(run, length, config, evaluations, shown, catalog)
    path = output or run.path / f"longrope-{found.length}.yaml"
    try:
        write(path, found)
    except OSError as error:
        raise PosxError(f"{path} cannot be written: {error.strerror}.", "Choose another -o.") from None
    if json:
        import json as json_format

        told = as_dict(found) | {"file": str(path)}
        print(json_format.dumps(told, indent=1, ensure_ascii=False))
    else:
        from posx.reporting.formats.terminal import show_page
        from posx.utils.console import to_stdout

        show_page(page(found), to_stdout())
        print(f"Wrote {path}.")
    if found.stopped:
        shown.say(f"Stopped after {len(found.history)} of {evaluations} evaluations: {path} holds the best of these.")
        raise typer.Exit(128 + found.stopped)
    name = names[0] if names else run.name
    line = shell(["posx", "eval", name, "--length", str(found.length), "--extension", f"longrope(factors={path})"])
    next_step(f"{line}{dir_flag(runs_dir)}")
