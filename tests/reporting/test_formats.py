"""Formats and kinds of plot are found by name, and what is heavy is imported late."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from posx.errors import PosxError
from posx.reporting.formats import find_format, formats, render
from posx.reporting.plots import KINDS


def test_every_format_is_found_by_its_name() -> None:
    assert set(formats()) == {"rich", "md", "csv", "latex", "json"}


@pytest.mark.parametrize(
    "name, file, expected",
    [
        (None, None, "rich"),
        (None, "a.tex", "latex"),
        (None, "a.csv", "csv"),
        (None, "a.txt", "md"),
        ("md", "a.csv", "md"),
    ],
)
def test_a_format_follows_from_the_name_or_the_file(name: str | None, file: str | None, expected: str) -> None:
    assert find_format(name, Path(file) if file else None).name == expected


def test_an_unknown_format_names_those_that_exist() -> None:
    with pytest.raises(PosxError, match=r"no format 'html'.*csv, json, latex, md, rich"):
        find_format("html")


def test_the_terminal_format_is_not_written_to_a_file() -> None:
    with pytest.raises(PosxError, match="for a terminal"):
        find_format("rich", Path("table.md"))
    with pytest.raises(PosxError, match="for a terminal"):
        render([], "rich")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_plot_has_its_function(kind: str) -> None:
    assert callable(getattr(import_module(f"posx.reporting.plots.{KINDS[kind]}"), f"plot_{kind}"))


@pytest.mark.parametrize(
    "module, absent",
    [
        ("posx.reporting.plots", "matplotlib"),
        ("posx.reporting.summary", "matplotlib"),
        ("posx.reporting.formats", "torch"),
        ("posx.reporting.views", "torch"),
        ("posx.results.aggregate", "torch"),
    ],
)
def test_heavy_imports_are_deferred(module: str, absent: str) -> None:
    program = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
