"""What all commands share: the app, its options, how errors and next steps are shown. Imports nothing heavy."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from posx.errors import PosxError, lacks_memory

app = typer.Typer(
    name="posx",
    help="How far does a positional scheme carry a language model past the length it was trained at?",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)

Runs = Annotated[list[str] | None, typer.Argument(metavar="RUN", help="Runs; all, if left out.")]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Where runs are kept.")]
ConfigDir = Annotated[
    Path | None,
    typer.Option("--config-dir", help="A folder of your own with scheme/, extension/, … that adds options."),
]
Trust = Annotated[bool, typer.Option("--trust", help="Load schemes and extensions from packages outside posx.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="OVERRIDES", help="Settings, such as train.steps=100 model=small."),
]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Show everything about these.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write to this file.")]


def command(name: str, **options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose errors are sentences and whose interruption is exit code 130."""

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
                fail(
                    PosxError(f"Not enough memory: {error}.", "Try a smaller model, context or setting of the scheme.")
                )
            except KeyboardInterrupt:
                print("Interrupted.", file=sys.stderr)
                raise typer.Exit(130) from None

        return app.command(name, **options)(guarded)

    return register


def fail(error: PosxError) -> None:
    """Print the sentence and its way out; leave with the error's exit code."""
    from posx.utils.console import console

    shown = console(stderr=True)
    shown.print("Error: ", style="bold red", end="")
    shown.print(error.message, markup=False, soft_wrap=True)
    if error.hint:
        shown.print(error.hint, markup=False, soft_wrap=True)
    raise typer.Exit(error.code)


@contextmanager
def display(quiet: bool = False) -> Iterator[Any]:
    """Progress on standard error."""
    from posx.utils.console import Display

    with Display(quiet) as shown:
        yield shown


def next_step(text: str) -> None:
    """What to do after a finished command; on standard error, so that pipes and JSON stay clean."""
    print(f"Next: {text}", file=sys.stderr)


def runs_and_overrides(arguments: list[str] | None, runs_dir: Path) -> tuple[list[str], list[str]]:
    """Tell RUNs from OVERRIDES: an argument with ``=`` is an override, unless such a path exists."""
    runs: list[str] = []
    overrides: list[str] = []
    for argument in arguments or []:
        is_run = "=" not in argument or Path(argument).exists() or (runs_dir / argument).exists()
        (runs if is_run else overrides).append(argument)
    return runs, overrides


def dir_flag(runs_dir: Path) -> str:
    return "" if runs_dir == Path("runs") else f" --runs-dir {shlex.quote(str(runs_dir))}"
