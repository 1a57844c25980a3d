"""The cells of a bundle: records, sums by document, and parts of curves.

The record KEY of a run in the bundle B has the address B/RUN/eval/KEY.json. There is no file at that path.

records.jsonl   a line per cell: run, key, record, losses_sha256 (of the losses of single targets, which are left out)
sums.parquet    a row per cell and document: cell (its line), document, targets, nats
curves.parquet  a row per cell, view, part and document: cell, view, low (the start of the part), x (where it is drawn),
                document, targets, nats
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posx.errors import PosxError
from posx.runs.bundle_runs import RECREATE, is_bundle, modified, read_lines

RECORDS, SUMS, CURVES = "records.jsonl", "sums.parquet", "curves.parquet"
VIEWS = ("context", "place")


def bundled_cells(folder: Path) -> dict[Path, dict[str, Any]]:
    """The fields of each record of the run with the address ``folder``, by address, in stored order."""
    return {
        _address(folder.parent, line): line["record"] for line in _lines(folder.parent) if line["run"] == folder.name
    }


def bundled_sums(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Documents, targets and nats of the record at this address; None if the bundle has none."""
    cell = _cell(path)
    if cell is None:
        return None
    rows = _rows(path.parents[2], SUMS).get(cell)
    return None if rows is None else (rows["document"], rows["targets"], rows["nats"])


def bundled_curve(path: Path, view: str) -> dict[str, np.ndarray] | None:
    """The rows of curves.parquet for the record at this address and a view; None if the bundle has none."""
    cell = _cell(path)
    rows = None if cell is None else _rows(path.parents[2], CURVES).get(cell)
    if rows is None:
        return None
    inside = rows["view"] == VIEWS.index(view)
    return {name: column[inside] for name, column in rows.items()} if inside.any() else None


def _address(bundle: Path, line: dict[str, Any]) -> Path:
    return bundle / line["run"] / "eval" / f"{line['key']}.json"


def _cell(path: Path) -> int | None:
    """The line of this address in the records of its bundle."""
    if len(path.parents) < 3 or not is_bundle(path.parents[2]):
        return None
    return _numbers(path.parents[2], modified(path.parents[2] / RECORDS)).get(path)


@lru_cache(maxsize=16)
def _numbers(bundle: Path, changed: int) -> dict[Path, int]:
    return {_address(bundle, line): number for number, line in enumerate(_lines(bundle))}


def _lines(bundle: Path) -> list[dict[str, Any]]:
    return _read_records(bundle, modified(bundle / RECORDS))


@lru_cache(maxsize=16)
def _read_records(bundle: Path, changed: int) -> list[dict[str, Any]]:
    return read_lines(bundle / RECORDS, run=str, key=str, record=dict)


def _rows(bundle: Path, name: str) -> dict[int, dict[str, np.ndarray]]:
    """The columns of a Parquet file of a bundle, by cell. Raises PosxError."""
    return _read(bundle / name, modified(bundle / name))


@lru_cache(maxsize=16)
def _read(path: Path, changed: int) -> dict[int, dict[str, np.ndarray]]:
    try:
        # pq.read_table and to_numpy would import pandas, which takes longer than reading the file.
        with pq.ParquetFile(path) as file:
            table = file.read()
        columns = {key: np.from_dlpack(table.column(key).combine_chunks()) for key in table.column_names}
        cells = columns.pop("cell")
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise PosxError(f"{path} is damaged ({reason}).", RECREATE) from None
    if not len(cells):
        return {}
    numbers, starts = np.unique(cells, return_index=True)  # rows are sorted by cell
    ends = [*starts[1:], len(cells)]
    return {
        int(number): {key: column[start:end] for key, column in columns.items()}
        for number, start, end in zip(numbers, starts, ends, strict=True)
    }
