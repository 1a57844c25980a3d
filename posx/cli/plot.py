"""posx plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import Runs, RunsDir, command, dir_flag, next_step


@command("plot")
def plot(
    runs: Runs = None,
    kind: Annotated[str, typer.Option(help="length, position, gain or finetune.")] = "length",
    by: Annotated[
        str | None,
        typer.Option(
            help="--kind position: over context (in whole windows), place (in documents), document. [context]"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where to; .png and .svg are written. [RUNS_DIR/KIND]"),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Draw what the evaluations found, with intervals; as PNG and SVG.

    length: perplexity over the evaluation context. position: nats over the available context, or the change over the
    place in the document. gain: share of what a long training gains. finetune: over the steps of a fine-tune.
    """
    from posx.reporting.grouping import choose
    from posx.reporting.plots import plot as draw
    from posx.results.aggregate import aggregate
    from posx.results.records import read_records

    cells = aggregate(read_records(runs_dir, runs or []))
    stem = output or runs_dir / ("perplexity" if kind == "length" else kind)
    if stem.suffix in (".png", ".svg"):
        stem = stem.with_suffix("")
    for path in draw(kind, choose(cells, None) if kind == "length" else cells, stem, by):
        print(path)
    next_step(f"posx table{dir_flag(runs_dir)}, posx report{dir_flag(runs_dir)}")
