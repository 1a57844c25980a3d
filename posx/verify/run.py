"""`posx verify`: schemes and extensions beside the formulas of their papers and other people's code; what all keep to.

What is compared is in ``posx.verify.oracles``: the same comparisons that the tests run. This goes over them, and tells.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch

from posx.config.catalog import Catalog
from posx.errors import PosxError, unknown
from posx.models.classes import known_extensions, known_schemes

NOTHING = "says nothing of this scheme"  # no closure that FlexAttention could call, or no position so far
MISSING = "is not installed"


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


def verify(names: Sequence[str] | None, catalog: Catalog, tell: Callable[[int, int, str], None]) -> list[Row]:
    """Rows of these schemes, by default all. ``tell`` hears how many of how many are done, and which is next.

    Raises PosxError for an unknown name. A scheme that fails is a row that is not ok.
    """
    known, extensions = known_schemes(catalog), known_extensions(catalog)
    for name in names or ():
        if name not in known and name not in extensions:
            raise unknown("scheme or extension", name, [*known, *extensions])
    jobs = [*_jobs([n for n in names or sorted(known) if n in known], catalog)]
    jobs += _extended([n for n in names or sorted(extensions) if n in extensions])
    rows, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)  # models so small lose time on more
    try:
        for done, (row, difference) in enumerate(jobs):
            tell(done, len(jobs), f"{row.name}: {row.oracle}")
            rows.append(row if row.reason else _run(row, difference))
    finally:
        torch.set_num_threads(threads)
    return rows


def _jobs(names: Sequence[str], catalog: Catalog) -> Iterator[tuple[Row, Callable[[], float | None]]]:
    comparisons: Any = importlib.import_module("posx.verify.oracles.scheme_comparisons")
    contract: Any = importlib.import_module("posx.verify.oracles.laws")
    small: Any = importlib.import_module("posx.verify.oracles.small_models")
    for name in names:
        yield from (_compared(one) for one in comparisons.COMPARISONS if one.name == name)
        others = [(variant, own) for variant, (of, own) in small.VARIANTS.items() if of == name]
        for which, settings in [(name, {}), *others]:
            more = "".join(f", {key}={value}" for key, value in settings.items())
            for one in contract.PROPERTIES:
                row = Row(name, "scheme", "property", f"{one.text}{more}", None, one.tolerance, None)
                yield row, lambda one=one, which=which: one.difference(which, catalog)  # type: ignore[misc]


def _extended(names: Sequence[str]) -> Iterator[tuple[Row, Callable[[], float | None]]]:
    extended: Any = importlib.import_module("posx.verify.oracles.extension_comparisons")
    yield from (_compared(one) for name in names for one in extended.EXTENDED if one.name == name)


def _compared(one: Any) -> tuple[Row, Callable[[], float | None]]:
    """A comparison, or why it cannot be made."""
    missing = one.needs and find_spec(one.needs.replace("-", "_")) is None
    reason = f"{one.needs} {MISSING}" if missing else ""
    return Row(one.name, one.kind, "oracle", one.oracle, None, one.tolerance, None, reason), one.difference


def _run(row: Row, difference: Callable[[], float | None]) -> Row:
    """The row with its verdict. Whatever goes wrong inside is the scheme's failure, and the others go on."""
    try:
        found = difference()
    except ImportError as error:  # of a package that is too old
        return replace(row, ok=None if row.check == "oracle" else False, reason=f"{error}")
    except PosxError as error:
        return replace(row, ok=False, reason=f"{error.message} {error.hint}".strip())
    except Exception as error:
        return replace(row, ok=False, reason=f"{type(error).__name__}: {error}")
    if found is None:
        return replace(row, reason=NOTHING)
    return replace(row, difference=found, ok=found <= row.tolerance)


def failed(rows: Sequence[Row]) -> bool:
    """Whether anything is off."""
    return any(row.ok is False for row in rows)
