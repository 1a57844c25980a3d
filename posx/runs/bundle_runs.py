"""Runs of a bundle: a folder with ``runs.jsonl`` instead of a folder for each run.

The run NAME of the bundle B is addressed as B/NAME, as if it were a run directory. Nothing exists at that path.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from posx.errors import PosxError

RUNS, METRICS = "runs.jsonl", "metrics.parquet"
RECREATE = "Recreate the bundle with posx bundle, or restore its files."


def is_bundle(folder: Path) -> bool:
    """Whether ``folder`` was written by ``posx bundle``."""
    return (folder / RUNS).is_file()


def check_has_weights(path: Path) -> None:
    """Raise PosxError if the run at ``path`` is in a bundle, which contains no weights."""
    if is_bundle(path.parent):
        raise PosxError(
            f"{path.name} is in the bundle {path.parent}, which contains no weights.",
            "Train it again: posx reproduce CELL --dry-run prints the commands.",
        )


def read_lines(path: Path, **kinds: type) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file of a bundle. ``kinds`` are the required keys and their types.

    Raises PosxError if the file is missing or damaged, or was written by another version of posx.
    """
    try:
        # Not splitlines, which also splits at separators that JSON leaves inside strings, such as U+2028.
        lines = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    except OSError as error:
        raise PosxError(f"{path} cannot be read: {error.strerror or error}.", RECREATE) from None
    except ValueError as error:  # neither UTF-8 nor JSON
        raise PosxError(f"{path} is damaged ({error}).", RECREATE) from None
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or not all(isinstance(line.get(key), kind) for key, kind in kinds.items()):
            raise PosxError(f"Line {number} of {path} was not written by this version of posx bundle.", RECREATE)
    return lines


def modified(path: Path) -> int:
    """Modification time of a file of a bundle in ns, for caches of its content. Raises PosxError."""
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise PosxError(f"{path} cannot be read: {error.strerror or error}.", RECREATE) from None


def bundled_runs(bundle: Path) -> dict[str, dict[str, Any]]:
    """``config`` and ``meta`` of each run, by name."""
    path = bundle / RUNS
    return _runs(path, modified(path))


@lru_cache(maxsize=16)
def _runs(path: Path, changed: int) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in read_lines(path, name=str, config=dict, meta=dict)}


def bundled_run(folder: Path) -> dict[str, Any] | None:
    """``config`` and ``meta`` of the run that is addressed as ``folder``; None if that is not part of a bundle."""
    return bundled_runs(folder.parent).get(folder.name) if is_bundle(folder.parent) else None


def bundled_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl of the run that is addressed as ``folder``, in their order."""
    import pyarrow as pa  # imported late, so that listing runs is fast
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(folder.parent / METRICS) as file:
            rows = file.read().to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PosxError(f"{folder.parent / METRICS} is damaged ({reason}).", RECREATE) from None
    run_rows = [row for row in rows if row.pop("run", None) == folder.name]
    return [{key: value for key, value in row.items() if value is not None} for row in run_rows]
