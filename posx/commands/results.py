"""What is made of records: posx table, plot."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from posx.commands.base import Output, RunsDir, command, dir_flag, next_step
from posx.errors import PosxError


@command("table")
def table(
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN", help="Runs; all, if left out.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="rich, md, csv, latex or json.")] = None,
    output: Output = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Perplexity by length, a row for each scheme and extension, from all evaluations so far."""
    from posx.records import read_records
    from posx.statistics import aggregate
    from posx.tables import FORMATS, render, show

    chosen = form or {".md": "md", ".csv": "csv", ".tex": "latex", ".json": "json"}.get(
        output.suffix if output else "", "md" if output else "rich"
    )
    if chosen not in FORMATS:
        from posx.errors import unknown

        raise unknown("format", chosen, FORMATS)
    cells = aggregate(read_records(runs_dir, runs or []))
    if chosen == "rich":
        if output is not None:
            raise PosxError("The rich format is for a terminal.", "For a file take --format md, csv, latex or json.")
        from posx.progress import to_stdout

        show(cells, to_stdout())
        next_step(f"posx plot{dir_flag(runs_dir)}, posx table --format latex -o table.tex{dir_flag(runs_dir)}")
        return
    text = render(cells, chosen)
    if output is None:
        sys.stdout.write(text)
        next_step(f"posx plot{dir_flag(runs_dir)}")
        return
    from posx.files import write_text

    try:
        write_text(output, text)
    except OSError as error:
        raise PosxError(f"{output} cannot be written: {error.strerror}.", "Choose another -o.") from None
    print(f"Wrote {output}.", file=sys.stderr)
    next_step(f"posx plot{dir_flag(runs_dir)}")


@command("plot")
def plot(
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN", help="Runs; all, if left out.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where to; .png and .svg are written. [RUNS_DIR/perplexity]"),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Draw perplexity over length, a line for each scheme and extension; as PNG and SVG."""
    from posx.records import read_records
    from posx.statistics import aggregate

    cells = aggregate(read_records(runs_dir, runs or []))
    from posx.plots import plot_perplexity

    stem = output or runs_dir / "perplexity"
    if stem.suffix in (".png", ".svg"):
        stem = stem.with_suffix("")
    for path in plot_perplexity(cells, stem):
        print(path)
    next_step(f"posx table{dir_flag(runs_dir)}, posx eval --length 3000{dir_flag(runs_dir)}")
