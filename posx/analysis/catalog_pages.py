"""`posx schemes` and `posx extensions` without names: lists made from the cards in the configs. Imports no torch."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from posx.config.catalog import Catalog
from posx.reporting.output import Output
from posx.utils.format import DASH

NO_EXTENSION = {"name": "none", "changes": "", "formula": "the model as it was trained", "paper": ""}


def scheme_rows(catalog: Catalog) -> list[dict[str, Any]]:
    """name, formula, cost, paper."""
    return [_row(catalog, "scheme", name, ("formula", "cost", "paper")) for name in sorted(catalog.options("scheme"))]


def extension_rows(catalog: Catalog) -> list[dict[str, Any]]:
    """name, changes, formula, paper; the first is none."""
    keys = ("changes", "formula", "paper")
    return [NO_EXTENSION, *(_row(catalog, "extension", name, keys) for name in sorted(catalog.options("extension")))]


def _row(catalog: Catalog, group: str, name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    card = catalog.card(group, name)
    return {"name": name, **{key: card.get(key, "") for key in keys}}


def list_schemes(catalog: Catalog) -> Output:
    """A list of all schemes."""
    rows = scheme_rows(catalog)
    table = Table(title="Positional schemes", title_justify="left", caption_justify="left")
    table.add_column("scheme", no_wrap=True)
    table.add_column("formula, extra cost over nope, paper")
    for row in rows:
        table.add_row(row["name"], _lines(row["formula"], row["cost"] and f"cost: {row['cost']}", row["paper"]))
        table.add_section()
    table.caption = "posx schemes NAME prints details; posx bench measures the cost on this machine."
    return Output(rows, [table])


def list_extensions(catalog: Catalog) -> Output:
    """A list of all extensions."""
    rows = extension_rows(catalog)
    table = Table(title="Test-time extensions", title_justify="left", caption_justify="left")
    table.add_column("extension", no_wrap=True)
    table.add_column("changes", no_wrap=True)
    table.add_column("formula, paper")
    for row in rows:
        table.add_row(row["name"], row["changes"] or DASH, _lines(row["formula"], row["paper"]))
        table.add_section()
    table.caption = (
        "posx extensions NAME prints details; posx extensions --matrix shows which schemes each one supports. "
        "Compose with +, set parameters in (): --extension ntk+window, --extension 'pi(s=4)'."
    )
    return Output(rows, [table])


def _lines(*lines: str) -> str:
    return "\n".join(filter(None, lines)) or DASH
