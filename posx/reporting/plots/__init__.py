"""Plots of cells: one module for each kind, loaded by name. matplotlib is imported only when a plot is drawn."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from posx.errors import PosxError, unknown
from posx.reporting.grouping import test_split
from posx.results.cells import Cell

# The kinds of --kind and their modules in this folder, in the order in which a sweep draws them.
KINDS = {"length": "length", "position": "position", "gain": "attainable", "finetune": "finetune"}


def plot(kind: str, cells: list[Cell], stem: Path, by: str | None = None) -> list[Path]:
    """Draw one kind and save it as ``stem``.png and .svg; ``by`` is one of the kind's views. Raises PosxError."""
    figure = draw(kind, cells, by)
    from posx.reporting.plots.style import save

    return save(figure, stem)


def svg(kind: str, cells: list[Cell], by: str | None = None) -> bytes:
    """The same plot as the bytes of an SVG file. Raises PosxError."""
    figure = draw(kind, cells, by)
    from posx.reporting.plots.style import svg_bytes

    return svg_bytes(figure)


def draw(kind: str, cells: list[Cell], by: str | None = None) -> Any:
    """The matplotlib figure, of the test split if there is one. Raises PosxError, NothingToDraw among others."""
    if kind not in KINDS:
        raise unknown("kind of plot", kind, KINDS)
    views = {name: getattr(_module(name), "VIEWS", ()) for name in KINDS}
    if by is not None and by not in views[kind]:
        owner = next((name for name in KINDS if by in views[name]), None)
        if owner is None:
            raise unknown("value of --by", by, [view for name in KINDS for view in views[name]])
        raise PosxError(f"--by {by} is for --kind {owner}, not for --kind {kind}.", "Remove it.")
    function = getattr(_module(kind), f"plot_{kind}")
    return function(test_split(cells)) if by is None else function(test_split(cells), by)


def _module(kind: str) -> Any:
    return import_module(f"{__name__}.{KINDS[kind]}")
