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


def is_bundle(folder: Path) -> bool:
    """Whether ``folder`` was written by ``posx bundle``."""
    return (folder / RUNS).is_file()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file of a bundle. Raises PosxError where it is damaged."""
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PosxError(f"{path} is damaged ({error}).", "Write the bundle again: posx bundle.") from None


def bundled_runs(bundle: Path) -> dict[str, dict[str, Any]]:
    """``config`` and ``meta`` of each run, by name."""
    path = bundle / RUNS
    return _runs(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _runs(path: Path, changed: int) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in read_lines(path)}


def bundled_run(folder: Path) -> dict[str, Any] | None:
    """``config`` and ``meta`` of the run that is addressed as ``folder``; None where that is not part of a bundle."""
    return bundled_runs(folder.parent).get(folder.name) if is_bundle(folder.parent) else None


def bundled_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl of the run that is addressed as ``folder``, in their order."""
    import pyarrow as pa  # not at the head: listing runs is quick
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(folder.parent / METRICS) as file:
            rows = file.read().to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PosxError(f"{folder.parent / METRICS} is damaged ({reason}).", "Write the bundle again.") from None
    own = [row for row in rows if row.pop("run") == folder.name]
    return [{key: value for key, value in row.items() if value is not None} for row in own]
