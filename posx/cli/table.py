"""posx table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import Output, Runs, RunsDir, command, dir_flag, next_step
from posx.errors import PosxError


@command("table")
def table(
    runs: Runs = None,
    form: Annotated[str | None, typer.Option("--format", help="rich, md, csv, latex or json.")] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="fixed-targets, non-overlapping, stream or curve; all: side by side. Default: fixed-targets, if any."
        ),
    ] = None,
    output: Output = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Print perplexity, changes from 1x and verdicts.

    Each change is in nats/token, with its 95% interval: crossed bootstraps over documents and seeds, simultaneous
    over the table (docs/protocol.md).
    """
    from posx import api

    chosen = api.find_format(form, output)
    records = api.read_table(runs_dir, runs or [])
    if chosen == "rich":
        from posx.utils.console import to_stdout

        console = to_stdout()
        pages = records.pages(protocol, console.width if console.file.isatty() else None)
        api.Output(None, pages).show(console)
        others = records.other_protocols(protocol)
        if others:
            print(f"Also evaluated: {', '.join(others)} (--protocol NAME, or all).", file=sys.stderr)
    elif output is None:
        sys.stdout.write(records.render(chosen, protocol))
    else:
        _write(output, records.render(chosen, protocol))
    next_step(f"posx plot{dir_flag(runs_dir)}, posx report{dir_flag(runs_dir)}")


def _write(output: Path, text: str) -> None:
    from posx.utils.files import write_text

    try:
        write_text(output, text)
    except OSError as error:
        raise PosxError(f"{output} cannot be written: {error.strerror}.", "Choose another -o.") from None
    print(f"Wrote {output}.", file=sys.stderr)
