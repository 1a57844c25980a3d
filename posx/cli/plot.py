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
            help="With --kind position: context (in whole windows), place (in documents) or document. [context]"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Output path; .png and .svg are written. [RUNS_DIR/KIND]"),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Plot evaluations with their intervals, as PNG and SVG.

    length: perplexity by evaluation length. position: nats/token by available context, or the change by position in the
    document. gain: the share of the gain of training at a longer context. finetune: changes by fine-tuning steps.
    """
    from posx import api

    stem = output or runs_dir / ("perplexity" if kind == "length" else kind)
    if stem.suffix in (".png", ".svg"):
        stem = stem.with_suffix("")
    for path in api.plot(api.read_table(runs_dir, runs or []), kind, stem, by):
        print(path)
    next_step(f"posx table{dir_flag(runs_dir)}, posx report{dir_flag(runs_dir)}")
