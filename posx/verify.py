"""`posx verify`: every scheme beside implementations that posx did not write, and what every scheme keeps to.

What is compared is in ``posx.oracles``: the same comparisons that the tests run. This goes over them, and tells.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from posx.compose import known_extensions, known_schemes
from posx.errors import PosxError, unknown
from posx.figures import DASH
from posx.pages import Entry, Page, entry

PACKAGES = ("torch", "transformers", "x-transformers")
VERDICTS = {True: "ok", False: "OFF", None: "not run"}


@dataclass(frozen=True)
class Row:
    """One scheme beside one oracle, or beside itself.

    ``difference`` is the largest absolute one over all cases and ``ok`` whether it is within ``tolerance``; both are
    None where it could not be run, for a ``reason``. ``check`` is oracle or property.
    """

    name: str
    kind: str
    check: str
    oracle: str
    difference: float | None
    tolerance: float
    ok: bool | None
    reason: str = ""


def verify(
    names: Sequence[str] | None, config_dir: Path | None, trust: bool, tell: Callable[[int, int, str], None]
) -> list[Row]:
    """Rows of these schemes, by default all. ``tell`` hears how many of how many are done, and which is next.

    Raises PosxError for an unknown name. A scheme that fails is a row that is not ok.
    """
    known, extensions = known_schemes(config_dir, trust), known_extensions(config_dir, trust)
    for name in names or ():
        if name not in known and name not in extensions:
            raise unknown("scheme or extension", name, [*known, *extensions])
    user = config_dir, trust
    jobs = [*_jobs([n for n in names or sorted(known) if n in known], user)]
    jobs += _extended([n for n in names or sorted(extensions) if n in extensions])
    rows, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)  # models so small lose time on more
    try:
        for done, (row, difference) in enumerate(jobs):
            tell(done, len(jobs), f"{row.name}: {row.oracle}")
            rows.append(row if row.reason else _run(row, difference))
    finally:
        torch.set_num_threads(threads)
    return [row for row in rows if row.reason or row.difference is not None]


def _jobs(names: Sequence[str], user: tuple[Path | None, bool]) -> Iterator[tuple[Row, Callable[[], float | None]]]:
    comparisons: Any = importlib.import_module("posx.oracles.comparisons")
    contract: Any = importlib.import_module("posx.oracles.contract")
    for name in names:
        yield from (_compared(one) for one in comparisons.COMPARISONS if one.name == name)
        for one in contract.PROPERTIES:
            row = Row(name, "scheme", "property", one.text, None, one.tolerance, None)
            yield row, lambda one=one, name=name: one.difference(name, user)  # type: ignore[misc]


def _extended(names: Sequence[str]) -> Iterator[tuple[Row, Callable[[], float | None]]]:
    extended: Any = importlib.import_module("posx.oracles.extended")
    yield from (_compared(one) for name in names for one in extended.EXTENDED if one.name == name)


def _compared(one: Any) -> tuple[Row, Callable[[], float | None]]:
    """A comparison, or why it cannot be made."""
    missing = one.needs and find_spec(one.needs.replace("-", "_")) is None
    reason = f"{one.needs} is not installed" if missing else ""
    return Row(one.name, one.kind, "oracle", one.oracle, None, one.tolerance, None, reason), one.difference


def _run(row: Row, difference: Callable[[], float | None]) -> Row:
    """The row with its verdict. Whatever goes wrong inside is the scheme's failure, and the others go on."""
    try:
        found = difference()
    except PosxError as error:  # its settings do not suit so small a model, say
        return Row(**{**asdict(row), "reason": f"{error.message} {error.hint}".strip()})
    except Exception as error:
        return Row(**{**asdict(row), "ok": False, "reason": f"{type(error).__name__}: {error}"})
    return Row(**{**asdict(row), "difference": found, "ok": None if found is None else found <= row.tolerance})


def failed(rows: Sequence[Row]) -> bool:
    """Whether anything is off."""
    return any(row.ok is False for row in rows)


def page(rows: Sequence[Row]) -> Page:
    """What `posx verify` prints."""
    sections = {n for n, row in enumerate(rows) if n and row.name != rows[n - 1].name}
    table = []
    for n, row in enumerate(rows):
        found = DASH if row.difference is None else _brief(row.difference)
        first = n == 0 or n in sections
        verdict = VERDICTS[row.ok]
        table.append(
            [
                entry(row.name if first else ""),
                entry(row.oracle),
                entry(found),
                entry(_brief(row.tolerance)),
                Entry((verdict,), "breaks" if row.ok is False else ""),
            ]
        )
    reasons = list(
        dict.fromkeys(f"{row.name}, {row.oracle}: {row.reason}" for row in rows if row.reason and row.ok is False)
    )
    missing = sorted({row.reason.split(" ")[0] for row in rows if row.reason.endswith("is not installed")})
    others = [f"{r.name}, {r.oracle}: {r.reason}" for r in rows if r.ok is None and not r.reason.endswith("installed")]
    notes = [*reasons, *others]
    if missing:
        notes.append(f"Not run, for want of {' and '.join(missing)}: pip install 'posx[verify]'.")
    good, bad = (sum(row.ok is verdict for row in rows) for verdict in (True, False))
    counted = f"{good} within their tolerance, {bad} off, {len(rows) - good - bad} not run"
    notes.append("The largest absolute difference over several numbers of heads, widths of a head and lengths.")
    return Page(
        "Schemes beside their oracles",
        f"{counted}; {', '.join(f'{p} {v}' for p in PACKAGES if (v := _version(p)))}",
        ["scheme", "beside", "largest difference", "tolerance", "verdict"],
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
