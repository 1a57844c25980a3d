"""The results of a sweep: its table on the terminal and in files, and its plots."""

from __future__ import annotations

from pathlib import Path

from posx.reporting.formats import render
from posx.reporting.formats.terminal import show
from posx.reporting.grouping import choose
from posx.reporting.plots import KINDS, plot
from posx.reporting.plots.base import NothingToDraw
from posx.results.aggregate import aggregate
from posx.results.records import Record
from posx.utils.console import Display, to_stdout
from posx.utils.files import write_text


def write_results(records: list[Record], stem: Path, display: Display) -> None:
    """Print the table, write it as ``stem``.md and .json, and draw every kind of plot that these records allow."""
    if not records:
        display.say("No job has finished, so there is no table.")
        return
    everything = aggregate(records)
    cells = choose(everything, None)
    show(cells, to_stdout())
    written = [stem.with_name(stem.name + suffix) for suffix in (".md", ".json")]
    for path in written:
        write_text(path, render(cells, path.suffix[1:]))
    for kind in KINDS:
        try:
            written += plot(kind, cells if kind == "length" else everything, stem.with_name(f"{stem.name}-{kind}"))
        except NothingToDraw:
            continue
    display.say(f"Wrote {', '.join(map(str, written))}.")
