"""The app, the options that commands share, and how results and errors are printed. Imports nothing heavy."""

from __future__ import annotations

import functools
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posx.errors import PosxError, lacks_memory

if TYPE_CHECKING:  # for start-up time
    from posx.api import Output as Result
    from posx.api import Run
    from posx.utils.console import Display

app = typer.Typer(
    name="posx",
    help="Train and evaluate language models beyond their training context, one for each positional scheme.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)

Runs = Annotated[list[str] | None, typer.Argument(metavar="RUN", help="Runs or bundles. Default: all runs.")]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Directory of runs.")]
ConfigDir = Annotated[
    Path | None,
    typer.Option("--config-dir", help="Folder with additional configs: scheme/, extension/, …"),
]
Trust = Annotated[bool, typer.Option("--trust", help="Load schemes and extensions from packages outside posx.")]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="OVERRIDES", help="Settings, such as train.steps=100 model=small."),
]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Describe these. Default: list all.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write to this file.")]


def command(name: str, **options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command: a PosxError is printed without a traceback, and Ctrl-C exits with code 130."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except PosxError as error:
                fail(error)
            except (MemoryError, RuntimeError) as error:
                if not lacks_memory(error):
                    raise
                fail(PosxError(f"Out of memory: {error}.", "Try a smaller model, context or setting of the scheme."))
            except KeyboardInterrupt:
                print("Interrupted.", file=sys.stderr)
                raise typer.Exit(130) from None

        return app.command(name, **options)(guarded)

    return register


def fail(error: PosxError) -> None:
    """Print the message and the hint, and exit with the error's code."""
    from posx.utils.console import console

    stderr = console(stderr=True)
    stderr.print("Error: ", style="bold red", end="")
    stderr.print(error.message, markup=False, soft_wrap=True)
    if error.hint:
        stderr.print(error.hint, markup=False, soft_wrap=True)
    raise typer.Exit(error.code)


@contextmanager
def display(quiet: bool = False) -> Iterator[Display]:
    """Progress on standard error."""
    from posx.utils.console import Display

    with Display(quiet) as progress:
        yield progress


def emit(output: Result, as_json: bool) -> None:
    """Print a result on standard output: its values as JSON, or its tables."""
    if as_json:
        print_json(output.values)
        return
    from posx.utils.console import to_stdout

    output.show(to_stdout())


def print_json(values: Any) -> None:
    print(json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False))


def next_step(text: str) -> None:
    """Suggest a next command, on standard error so that pipes and JSON stay clean."""
    print(f"Next: {text}", file=sys.stderr)


def runs_and_overrides(arguments: list[str] | None, runs_dir: Path) -> tuple[list[str], list[str]]:
    """Separate runs from overrides: an argument with ``=`` is an override unless a path of that name exists."""
    runs: list[str] = []
    overrides: list[str] = []
    for argument in arguments or []:
        is_run = "=" not in argument or Path(argument).exists() or (runs_dir / argument).exists()
        (runs if is_run else overrides).append(argument)
    return runs, overrides


def one_run(arguments: list[str] | None, runs_dir: Path, example: str) -> tuple[Run, str, list[str]]:
    """The named run, or the newest finished one; its name on the command line; the overrides. Raises PosxError."""
    from posx import api

    names, overrides = runs_and_overrides(arguments, runs_dir)
    if len(names) > 1:
        raise PosxError(f"Expected one run, not {len(names)}.", f"Try {example}.")
    if names:
        return api.find_run(runs_dir, names[0]), names[0], overrides
    run = api.newest_run(runs_dir)
    print(f"Using the newest finished run, {run.name}.", file=sys.stderr)
    return run, run.name, overrides


def reject_settings(command: str, overrides: list[str], hints: dict[str, str]) -> None:
    """Raise PosxError if a setting is overridden that the command does not support; ``hints`` are by key."""
    from posx.config.compose import key_of

    keys = {key_of(override) for override in overrides}
    for key, hint in hints.items():
        if key in keys:
            raise PosxError(f"{command} does not support {key}.", hint)


def dir_flag(runs_dir: Path) -> str:
    """The flag that repeats a runs directory in a suggested command."""
    return "" if runs_dir == Path("runs") else f" --runs-dir {shlex.quote(str(runs_dir))}"
