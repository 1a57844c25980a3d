"""The results of `posx verify` as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from posx.reporting.table import Entry, Page, entry
from posx.utils.format import DASH
from posx.verify.run import MISSING, NOTHING, Row

PACKAGES = ("torch", "transformers", "x-transformers")
VERDICTS = {True: "ok", False: "FAILED", None: "skipped"}


def page(rows: Sequence[Row]) -> Page:
    """The table of `posx verify`."""
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
    explained = [row for row in rows if row.reason and row.reason != NOTHING and not row.reason.endswith(MISSING)]
    notes = [f"{row.name}, {row.oracle}: {row.reason}" for row in explained]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        notes.append(f"Skipped: {' and '.join(missing)} {verb} not installed. Run pip install 'posx[verify]'.")
    if any(row.reason == NOTHING for row in rows):
        notes.append(f"{DASH}: {NOTHING}.")
    notes.append(
        "Differences are the largest absolute ones over several numbers of heads, head dimensions and lengths."
    )
    applicable = [row for row in rows if row.reason != NOTHING]
    passed, off = (sum(row.ok is verdict for row in applicable) for verdict in (True, False))
    return Page(
        "Checks against papers and reference code",
        f"{passed} passed, {off} failed, {len(applicable) - passed - off} skipped; "
        f"{', '.join(f'{package} {installed}' for package in PACKAGES if (installed := _version(package)))}",
        ["name", "compared with", "largest difference", "tolerance", "verdict"],
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
