"""Cells as CSV and JSON: every field of the record, and the values derived from it."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

from posx.reporting.formats.base import Format
from posx.results.cells import Cell


def _csv(cells: list[Cell], side_by_side: bool) -> str:
    """A row for each cell; lists and mappings are written as JSON."""
    rows = [cell.as_dict() for cell in cells]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()})
    return out.getvalue()


def _json(cells: list[Cell], side_by_side: bool) -> str:
    """An array of cells."""
    return json.dumps([_finite(cell.as_dict()) for cell in cells], indent=1, ensure_ascii=False) + "\n"


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """The row with null instead of infinity and NaN, which JSON does not have."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


CSV = Format("csv", _csv, ".csv")
JSON = Format("json", _json, ".json")
