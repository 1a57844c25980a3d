"""Bundles: the parts of runs that tables, plots, reports and ``posx reproduce`` require, in a few files.

runs.jsonl and metrics.parquet describe the training (:mod:`posx.runs.bundle_runs`); records.jsonl, sums.parquet and
curves.parquet the evaluations (:mod:`posx.results.bundle_cells`). Weights and the losses of single targets are left
out. A bundle can be read wherever a runs directory can.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posx.config.catalog import read_yaml
from posx.errors import PosxError
from posx.results.bundle_cells import CURVES, RECORDS, SUMS, VIEWS
from posx.results.parts import parts_of
from posx.results.records import Record, as_json
from posx.results.sums import by_document
from posx.runs.bundle_runs import METRICS, RUNS, bundled_run, is_bundle
from posx.runs.directory import Run, metrics, open_run, stored_meta
from posx.utils.files import sha256_file, whole_file, write_text

CURVED = {"fixed-targets": "place", "curve": "context"}  # the view that a plot draws of a protocol
REQUIRED = (METRICS, SUMS, CURVES, RECORDS, RUNS)
OPTIONAL = ("sweep.yaml", "table.md", "perplexity.svg")
SETTINGS: dict[str, Any] = {"compression": "zstd", "compression_level": 19}


def write_bundle(records: Sequence[Record], target: Path, files: Mapping[str, str] | None = None) -> None:
    """Write the runs of these records to the folder ``target``, which may be an existing bundle.

    ``files``: further text files by name, as in OPTIONAL. All files appear together or not at all. Raises PosxError,
    also if ``target`` has other files.
    """
    folders = sorted({r.path.parent.parent for r in records if r.path is not None})
    _check_names(folders)
    _check_target(target, folders)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
            staged = Path(scratch)
            _write_table(staged / METRICS, _metrics([open_run(folder) for folder in folders]))
            _write_table(staged / SUMS, _sums(records), ["nats"])
            _write_table(staged / CURVES, _curves(records), ["nats"])
            _write_lines(staged / RECORDS, [_record_line(record) for record in records])
            _write_lines(staged / RUNS, [_run_line(folder) for folder in folders])
            for name, text in (files or {}).items():
                write_text(staged / name, text)
            _replace(target, staged)
    except OSError as error:
        raise PosxError(f"{target} cannot be written: {error.strerror or error}.", "Choose another -o.") from None


def _check_names(folders: Sequence[Path]) -> None:
    """Raise PosxError for two runs of the same name, which would be one run in the bundle."""
    seen: dict[str, Path] = {}
    for folder in folders:
        other = seen.setdefault(folder.name, folder)
        if other != folder:
            raise PosxError(f"{other} and {folder} have the same name.", "Bundle one of the two, or write two bundles.")


def _check_target(target: Path, folders: Sequence[Path]) -> None:
    """Raise PosxError if the bundle would be mixed with other files."""
    if any(folder.parent.resolve() == target.resolve() for folder in folders):
        raise PosxError(f"{target} is where these runs are.", "Choose another -o.")
    if target.is_dir() and not is_bundle(target):
        others = sorted(path.name for path in target.iterdir() if path.name not in (*REQUIRED, *OPTIONAL))
        if others:
            raise PosxError(f"{target} exists and is not a bundle: it contains {others[0]}.", "Choose another -o.")


def _replace(target: Path, staged: Path) -> None:
    """Move the files to ``target``. RUNS, which makes a folder a bundle, is removed first and moved last."""
    target.mkdir(exist_ok=True)
    for name in (RUNS, *OPTIONAL):
        (target / name).unlink(missing_ok=True)
    for path in sorted(staged.iterdir(), key=lambda path: path.name == RUNS):
        path.replace(target / path.name)


def _run_line(folder: Path) -> dict[str, Any]:
    bundled = bundled_run(folder)
    config = bundled["config"] if bundled else read_yaml(folder / "config.yaml", "run config")
    return {"name": folder.name, "config": config or {}, "meta": stored_meta(folder)}


def _record_line(record: Record) -> dict[str, Any]:
    """``losses_sha256`` is null without losses, or if the record comes from another bundle."""
    assert record.path is not None
    losses = record.path.with_suffix(".parquet")
    return {
        "run": record.path.parent.parent.name,
        "key": record.key,
        "losses_sha256": sha256_file(losses) if losses.is_file() else None,
        "record": as_json(record),
    }


def _write_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    write_text(
        path,
        "".join(json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n" for line in lines),
    )


def _metrics(runs: list[Run]) -> pa.Table:
    return pa.Table.from_pylist(_same_keys([{"run": run.name, **row} for run in runs for row in metrics(run)]))


def _same_keys(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the union of all keys, None if a key was missing: Arrow takes its columns from the first row."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in keys} for row in rows]


def _sums(records: Sequence[Record]) -> pa.Table:
    kept = [(number, sums) for number, record in enumerate(records) if (sums := by_document(record)) is not None]
    return pa.table(
        {
            "cell": _joined([np.full(len(sums.documents), number) for number, sums in kept], np.int32),
            "document": _joined([sums.documents for _, sums in kept], np.int32),
            "targets": _joined([sums.counts for _, sums in kept], np.int64),
            "nats": _joined([sums.nats for _, sums in kept], np.float64),
        }
    )


def _curves(records: Sequence[Record]) -> pa.Table:
    kept = [
        (number, VIEWS.index(view), part)
        for number, record in enumerate(records)
        if (view := CURVED.get(record.protocol)) is not None
        for part in parts_of(record, view) or []
    ]
    sizes = [len(part.documents) for _, _, part in kept]

    def repeated(values: list[float], kind: type) -> np.ndarray:
        return np.repeat(np.array(values, dtype=kind), sizes)

    return pa.table(
        {
            "cell": repeated([number for number, _, _ in kept], np.int32),
            "view": repeated([view for _, view, _ in kept], np.int8),
            "low": repeated([part.low for _, _, part in kept], np.float64),
            "x": repeated([part.x for _, _, part in kept], np.float64),
            "document": _joined([part.documents for _, _, part in kept], np.int32),
            "targets": _joined([part.counts for _, _, part in kept], np.int64),
            "nats": _joined([part.nats for _, _, part in kept], np.float64),
        }
    )


def _joined(parts: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, kind), *(part.astype(kind) for part in parts)])


def _write_table(path: Path, table: pa.Table, floats: Sequence[str] = ()) -> None:
    """``floats``: columns whose values rarely repeat, encoded by byte: similar floats share their high bytes."""
    encoded = [name for name in table.column_names if name not in floats]
    with whole_file(path) as temporary:
        pq.write_table(
            table,
            temporary,
            use_dictionary=encoded,
            column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT") or None,
            **SETTINGS,
        )
