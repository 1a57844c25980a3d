"""The results of a sweep as files: its table and its plots."""

from __future__ import annotations

from pathlib import Path

from posx.reporting.formats import render
from posx.reporting.grouping import choose
from posx.reporting.plots import KINDS, plot
from posx.reporting.plots.base import NothingToDraw
from posx.results.aggregate import aggregate
from posx.results.records import Record
from posx.utils.files import write_text


def write_results(records: list[Record], stem: Path) -> list[Path]:
    """Write the table as ``stem``.md and .json, and draw every kind of plot that these records allow."""
    everything = aggregate(records)
    cells = choose(everything, None)
    written = [stem.with_name(stem.name + suffix) for suffix in (".md", ".json")]
    for path in written:
        write_text(path, render(cells, path.suffix[1:]))
    for kind in KINDS:
        try:
            written += plot(kind, cells if kind == "length" else everything, stem.with_name(f"{stem.name}-{kind}"))
        except NothingToDraw:
            continue
    return written
