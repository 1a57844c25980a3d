"""posx table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import Output, Runs, RunsDir, command, dir_flag, next_step
from posx.errors import PosxError, unknown


@command("table")
def table(
    runs: Runs = None,
    form: Annotated[str | None, typer.Option("--format", help="rich, md, csv, latex or json.")] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="fixed-targets, non-overlapping, stream or curve; all: side by side. [fixed-targets if any]"),
    ] = None,
    output: Output = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """nats/token, perplexity, change against 1x with its interval, and verdict: for all evaluations so far.

    Intervals are crossed bootstraps over documents and seeds, simultaneous over the table (docs/protocol.md).
    """
    from posx.config.schema import PROTOCOLS
    from posx.reporting.formats import find_format
    from posx.reporting.grouping import ALL, choose
    from posx.results.aggregate import aggregate
    from posx.results.records import read_records

    chosen = find_format(form, output)
    if protocol is not None and protocol not in (*PROTOCOLS, ALL):
        raise unknown("protocol", protocol, (*PROTOCOLS, ALL))
    everything = aggregate(read_records(runs_dir, runs or []))
    cells = choose(everything, protocol)
    evaluated = sorted({cell.comparison.protocol for cell in everything})
    if not cells:
        which = protocol or "any protocol that a table shows"
        raise PosxError(f"There are no evaluations under {which}.", f"There are some under {', '.join(evaluated)}.")
    side_by_side = protocol == ALL
    if chosen.render is None:
        from posx.reporting.formats.terminal import show
        from posx.utils.console import to_stdout

        show(cells, to_stdout(), side_by_side)
        others = [name for name in evaluated if name not in {cell.comparison.protocol for cell in cells}]
        if others:
            print(f"Also evaluated: {', '.join(others)} (--protocol NAME, or all).", file=sys.stderr)
    elif output is None:
        sys.stdout.write(chosen.render(cells, side_by_side))
    else:
        _write(output, chosen.render(cells, side_by_side))
    next_step(f"posx plot{dir_flag(runs_dir)}, posx report{dir_flag(runs_dir)}")


def _write(output: Path, text: str) -> None:
    from posx.utils.files import write_text

    try:
        write_text(output, text)
    except OSError as error:
        raise PosxError(f"{output} cannot be written: {error.strerror}.", "Choose another -o.") from None
    print(f"Wrote {output}.", file=sys.stderr)
