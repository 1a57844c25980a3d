"""What `posx verify` prints of its rows, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

from posx.reporting.table import Entry, Page, entry
from posx.utils.format import DASH
from posx.verify.run import MISSING, NOTHING, Row

PACKAGES = ("torch", "transformers", "x-transformers")
VERDICTS = {True: "ok", False: "OFF", None: "not run"}


def page(rows: Sequence[Row]) -> Page:
    """What `posx verify` prints."""
    sections = {n for n, row in enumerate(rows) if n and row.name != rows[n - 1].name}
    table = [
        [
            entry(row.name if n == 0 or n in sections else ""),
            entry(row.oracle),
            entry(DASH if row.difference is None else _brief(row.difference)),
            entry(_brief(row.tolerance)),
            Entry((DASH if row.reason == NOTHING else VERDICTS[row.ok],), "breaks" if row.ok is False else ""),
        ]
        for n, row in enumerate(rows)
    ]
    missing = sorted({row.reason.split(" ")[0] for row in rows if row.reason.endswith(MISSING)})
    told = [row for row in rows if row.reason and row.reason != NOTHING and not row.reason.endswith(MISSING)]
    notes = [f"{row.name}, {row.oracle}: {row.reason}" for row in told]
    if missing:
        notes.append(f"Not run, for want of {' and '.join(missing)}: pip install 'posx[verify]'.")
    if any(row.reason == NOTHING for row in rows):
        notes.append(f"{DASH}: {NOTHING}.")
    notes.append("The largest absolute difference over several numbers of heads, widths of a head and lengths.")
    asked = [row for row in rows if row.reason != NOTHING]
    good, bad = (sum(row.ok is verdict for row in asked) for verdict in (True, False))
    return Page(
        "Schemes and extensions beside their oracles",
        f"{good} within their tolerance, {bad} off, {len(asked) - good - bad} not run; "
        f"{', '.join(f'{package} {found}' for package in PACKAGES if (found := _version(package)))}",
        ["name", "beside", "largest difference", "tolerance", "verdict"],
        table,
        notes,
        left=2,
        sections=frozenset(sections),
    )


def _brief(value: float) -> str:
    return "0" if value == 0 else f"{value:.2g}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def as_json(rows: Sequence[Row]) -> str:
    """An array of objects: the fields of :class:`Row`."""
    return json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False)
