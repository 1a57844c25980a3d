"""`posx verify`: checks schemes and extensions against papers and reference code, and checks their common properties.

This module runs the comparisons in ``posx.verify.oracles``, which the tests run as well.
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

NOTHING = "does not apply to this scheme"  # for example no closure for FlexAttention, or no position that far
MISSING = "is not installed"


@dataclass(frozen=True)
class Row:
    """One check of a scheme or extension: against an oracle, or of a property.

    ``difference`` is the largest absolute difference over all cases, and ``ok`` whether it is within ``tolerance``;
    both are None if the check was not run, see ``reason``. ``check`` is "oracle" or "property".
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
    """The rows of these schemes and extensions, by default all. Raises PosxError for an unknown name.

    ``tell(done, total, name)`` is called before each check. A check that fails, or raises, gives a row that is not ok.
    """
    known, extensions = known_schemes(catalog), known_extensions(catalog)
    for name in names or ():
        if name not in known and name not in extensions:
            raise unknown("scheme or extension", name, [*known, *extensions])
    jobs = [*_jobs([n for n in names or sorted(known) if n in known], catalog)]
    jobs += _extended([n for n in names or sorted(extensions) if n in extensions])
    rows, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)  # faster for models this small
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
        yield from (_compared(comparison) for comparison in comparisons.COMPARISONS if comparison.name == name)
        variants = [(variant, own) for variant, (scheme, own) in small.VARIANTS.items() if scheme == name]
        for variant, settings in [(name, {}), *variants]:
            suffix = "".join(f", {key}={value}" for key, value in settings.items())
            for law in contract.PROPERTIES:
                row = Row(name, "scheme", "property", f"{law.text}{suffix}", None, law.tolerance, None)
                yield row, lambda law=law, variant=variant: law.difference(variant, catalog)  # type: ignore[misc]


def _extended(names: Sequence[str]) -> Iterator[tuple[Row, Callable[[], float | None]]]:
    extended: Any = importlib.import_module("posx.verify.oracles.extension_comparisons")
    yield from (_compared(check) for name in names for check in extended.EXTENDED if check.name == name)


def _compared(check: Any) -> tuple[Row, Callable[[], float | None]]:
    """The row of a comparison, with the reason if it cannot be run, and its function."""
    missing = check.needs and find_spec(check.needs.replace("-", "_")) is None
    reason = f"{check.needs} {MISSING}" if missing else ""
    return Row(check.name, check.kind, "oracle", check.oracle, None, check.tolerance, None, reason), check.difference


def _run(row: Row, difference: Callable[[], float | None]) -> Row:
    """The row with its verdict. Any exception is a failure of this check only."""
    try:
        largest = difference()
    except ImportError as error:  # for example from a package that is too old
        return replace(row, ok=None if row.check == "oracle" else False, reason=f"{error}")
    except PosxError as error:
        return replace(row, ok=False, reason=f"{error.message} {error.hint}".strip())
    except Exception as error:
        return replace(row, ok=False, reason=f"{type(error).__name__}: {error}")
    if largest is None:
        return replace(row, reason=NOTHING)
    return replace(row, difference=largest, ok=largest <= row.tolerance)


def failed(rows: Sequence[Row]) -> bool:
    """Whether any check failed."""
    return any(row.ok is False for row in rows)
