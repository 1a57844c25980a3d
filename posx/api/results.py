"""Stored runs and records: tables, plots, reports, comparisons and bundles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posx.api.arguments import OnProgress, check_list, check_path, describe
from posx.errors import PosxError, unknown
from posx.reporting.output import Output
from posx.results.records import Record
from posx.runs.directory import Run
from posx.utils.progress import as_display

if TYPE_CHECKING:  # for start-up time: these import numpy, pandas or torch
    from pandas import DataFrame

    from posx.reporting.table import Page
    from posx.results.cells import Cell
    from posx.sweeps.engines.base import Job


@dataclass(frozen=True)
class Table:
    """Records and their aggregates: ``posx.Table(records).to_markdown()``. Raises PosxError for other objects."""

    records: list[Record]
    failed: list[Job] = field(default_factory=list)  # jobs of a sweep that failed; ``last_words`` says why

    def __post_init__(self) -> None:
        records = check_list("records", self.records, "posx.evaluate(run, ['2x'])")
        other = next((record for record in records if not isinstance(record, Record)), None)
        if other is not None:
            raise PosxError(f"A table is made of records, not {describe(other)}.", "posx.evaluate returns records.")

    @cached_property
    def cells(self) -> list[Cell]:
        """Means over seeds with the change from 1x and its interval, for every protocol."""
        from posx.results.aggregate import aggregate

        return aggregate(self.records)

    def render(self, form: str, protocol: str | None = None) -> str:
        """The table as the text of a file: md, csv, latex or json.

        ``protocol`` is a protocol or "all"; by default fixed-targets, if it was evaluated. Raises PosxError.
        """
        from posx.reporting.formats import find_format, render
        from posx.reporting.grouping import ALL

        return render(self.select(protocol), find_format(form).name, protocol == ALL)

    def to_markdown(self, protocol: str | None = None) -> str:
        """The table as Markdown, for GitHub and notebooks."""
        return self.render("md", protocol)

    def pages(self, protocol: str | None = None, width: int | None = None) -> list[Page]:
        """The tables of :meth:`render`, independent of a format. ``width``: of the terminal, in columns."""
        from posx.reporting.grouping import ALL
        from posx.reporting.views import pages

        return pages(self.select(protocol), protocol == ALL, width)

    def select(self, protocol: str | None = None) -> list[Cell]:
        """The cells of a protocol, or of all ("all"); by default, of the protocol to show first. Raises PosxError."""
        from posx.config.schema import PROTOCOLS
        from posx.reporting.grouping import ALL, choose

        if protocol is not None and protocol not in (*PROTOCOLS, ALL):
            raise unknown("protocol", protocol, (*PROTOCOLS, ALL))
        self.check_not_empty()
        cells = choose(self.cells, protocol)
        if not cells:
            which = protocol or "any protocol that a table shows"
            raise PosxError(
                f"There are no evaluations with {which}.", f"There are some with {', '.join(self.protocols)}."
            )
        return cells

    def check_not_empty(self) -> None:
        """Raise PosxError if there are no records."""
        if not self.records:
            raise PosxError("This table has no records.", 'Evaluate a run: posx.evaluate(run, ["2x"]).')

    def all_pages(self, side_by_side: bool = False, width: int | None = None) -> list[Page]:
        """The tables of all cells, for every protocol."""
        from posx.reporting.views import pages

        return pages(self.cells, side_by_side, width)

    def other_protocols(self, protocol: str | None) -> list[str]:
        """The protocols of the records that a table of this protocol leaves out."""
        return [p for p in self.protocols if p not in {cell.comparison.protocol for cell in self.select(protocol)}]

    @property
    def protocols(self) -> list[str]:
        """The protocols of the records, in alphabetical order."""
        return sorted({cell.comparison.protocol for cell in self.cells})

    def to_pandas(self) -> DataFrame:
        """One row for each cell, with the keys of ``posx table --format json``."""
        from pandas import DataFrame

        return DataFrame(json.loads(self.render("json")))

    def _repr_markdown_(self) -> str:
        return self.to_markdown() if self.records else "No records."


def load_run(path: Path | str) -> Run:
    """The run in a directory: its ``config``, ``step``, ``finished``, ``meta``. Raises PosxError."""
    from posx.runs.directory import open_run

    return open_run(check_path(path))


def find_run(runs_dir: Path | str, name: str) -> Run:
    """The run of this name in a runs directory or bundle, or at this path. Raises PosxError."""
    from posx.runs.directory import find_run

    return find_run(check_path(runs_dir), name)


def newest_run(runs_dir: Path | str = "runs") -> Run:
    """The newest finished run. Raises PosxError if there is none."""
    from posx.runs.directory import newest_finished

    return newest_finished(check_path(runs_dir))


def find_record(runs_dir: Path | str, cell: str) -> Record:
    """The record with this key, the start of it, or this path. Raises PosxError."""
    from posx.results.query import find_cell

    return find_cell(Path(runs_dir), cell)


def load_records(path: Path | str = "runs") -> DataFrame:
    """One row for each record of a run, or of all runs in a directory: the fields of :class:`Record`,
    and derived columns.

    Derived are ``nats_per_token`` (nats), ``perplexity``, ``bits_per_byte`` and ``multiple`` (of the base context).
    They are NaN if nothing was computed. ``path`` can be a bundle, or a run of it. Raises PosxError if there are no
    records.
    """
    from posx.results.frame import as_frame
    from posx.results.records import read_records
    from posx.runs.directory import is_run

    folder = check_path(path)
    one_run = is_run(folder)
    return as_frame(read_records(folder.parent, [str(folder)]) if one_run else read_records(folder, []))


def record_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The records as ``posx eval --json`` prints them."""
    from posx.results.records import as_json

    return [as_json(record) for record in records]


def read_table(runs_dir: Path | str = "runs", runs: Sequence[str] = ()) -> Table:
    """The records of the named runs and bundles, or of all runs in the directory. Raises PosxError."""
    from posx.results.records import read_records

    return Table(read_records(check_path(runs_dir), check_list("runs", runs, '["rope"]')))


def find_format(name: str | None, path: Path | None) -> str:
    """The format of a table: of this name, or of the file's suffix; "rich" is for a terminal. Raises PosxError."""
    from posx.reporting import formats

    return formats.find_format(name, path).name


def plot(table: Table, kind: str, stem: Path | str, by: str | None = None) -> list[Path]:
    """Draw one kind of plot (length, position, gain, finetune) as ``stem``.png and ``stem``.svg. Raises PosxError."""
    from posx.reporting.grouping import choose
    from posx.reporting.plots import plot as draw

    return draw(kind, choose(table.cells, None) if kind == "length" else table.cells, Path(stem), by)


def report(
    table: Table, path: Path | str, *, title: str = "", runs_dir: Path | str = "runs", progress: OnProgress = None
) -> Path:
    """Write the HTML report. ``runs_dir`` appears in its commands. Raises PosxError."""
    from posx.reporting.page import write_report

    path = check_path(path)
    table.check_not_empty()
    if path.is_dir():
        raise PosxError(f"{path} is a directory.", "Name a file: -o report.html.")
    write_report(table.records, Path(runs_dir), path, title, as_display(progress).say)
    return path


def compare(
    a: str,
    b: str,
    lengths: Sequence[int | str] = (),
    *,
    protocol: str = "fixed-targets",
    runs_dir: Path | str = "runs",
) -> Output:
    """The paired difference of two runs, rows of seeds or extensions ("rope:pi") at each length. Raises PosxError.

    By default at all common lengths.
    """
    from dataclasses import asdict

    from posx.reporting.views import comparison
    from posx.results.compare import compare_rows

    sizes = [str(length) for length in check_list("lengths", lengths, '[3000, "2x"]')]
    compared = compare_rows(check_path(runs_dir), a, b, sizes, protocol)
    names = {"a_name": compared.a, "b_name": compared.b}
    values = [asdict(pair) | names | {"verdict": pair.verdict} for pair in compared.pairs]
    return Output(values, [comparison(compared.pairs, compared.a, compared.b, compared.record)])
