"""What a sweep leaves behind: its table on the terminal and as Markdown, and its plot."""

from __future__ import annotations

from pathlib import Path

from posx.files import write_text
from posx.plots import plot_perplexity
from posx.progress import Display, to_stdout
from posx.records import Record
from posx.statistics import aggregate
from posx.tables import render, show


def write_results(records: list[Record], stem: Path, display: Display) -> None:
    """Print the table; write ``stem``.md, .json, .png and .svg."""
    if not records:
        display.say("No job is done, so there is no table.")
        return
    cells = aggregate(records)
    show(cells, to_stdout())
    written = [stem.with_name(stem.name + suffix) for suffix in (".md", ".json")]
    for path in written:
        write_text(path, render(cells, path.suffix[1:]))
    if any(cell.ok for cell in cells):
        written += plot_perplexity(cells, stem)
    display.say(f"Wrote {', '.join(map(str, written))}.")
