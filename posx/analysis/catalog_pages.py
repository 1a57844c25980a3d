"""`posx schemes` and `posx extensions`: what exists, in a line each, and what fits what."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from typing import Any

from rich.table import Table

from posx.config.catalog import Catalog
from posx.models.binding import fits, only_masks
from posx.models.build import complete_scheme, compose_run, make_scheme
from posx.models.classes import known_extensions, known_schemes
from posx.models.decoder import model_shape
from posx.schemes.base import Scheme
from posx.utils.console import to_stdout
from posx.utils.format import DASH


def _schemes(catalog: Catalog) -> dict[str, tuple[dict[str, Any], Scheme]]:
    """Name → settings and the scheme itself, in the default model."""
    default = compose_run([])
    shape = model_shape(default.model, default.train.context)
    found = {}
    for name in sorted(known_schemes(catalog)):
        config = complete_scheme(name, shape, catalog, f"{name}.")
        settings = {k: v for k, v in config.items() if k not in ("name", "_target_")}
        found[name] = settings, make_scheme(config, shape, catalog)
    return found


def scheme_rows(catalog: Catalog) -> list[dict[str, Any]]:
    """name, formula, parameters (of the scheme, in the default model), cost, settings, extensions."""
    extensions = known_extensions(catalog)
    return [
        {
            "name": name,
            "formula": scheme.formula,
            "parameters": sum(p.numel() for p in scheme.parameters()),
            "cost": cost(type(scheme)),
            "settings": settings,
            "extensions": sorted(n for n, extension in extensions.items() if fits(extension, scheme)),
        }
        for name, (settings, scheme) in _schemes(catalog).items()
    ]


def cost(scheme: type[Scheme]) -> str:
    """What the class's docstring, or that of its file, says after "cost:", up to the full stop; empty without."""
    for text in (scheme.__doc__, sys.modules[scheme.__module__].__doc__):
        found = re.search(r"\bcost: (.+?)(?:\.(?=\s|$)|$)", " ".join((text or "").split()), re.IGNORECASE)
        if found:
            return found[1]
    return ""


def _brief(value: Any) -> Any:
    """A scheme by its name."""
    if isinstance(value, list):
        return "[" + ",".join(str(_brief(one)) for one in value) + "]"
    return value["name"] if isinstance(value, dict) else value


def show_schemes(as_json: bool, catalog: Catalog) -> None:
    """Print the list."""
    rows = scheme_rows(catalog)
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    table = Table(title="Positional schemes", title_justify="left", caption_justify="left")
    for head in ("scheme", "what it computes", "parameters", "settings (scheme.…)", "extensions that fit"):
        table.add_column(
            head,
            justify="right" if head == "parameters" else "left",
            no_wrap=head == "scheme",
            max_width=80 if head == "what it computes" else None,
        )
    for row in rows:
        settings = ", ".join(f"{k}={_brief(v)}" for k, v in row["settings"].items() if v is not None)
        table.add_row(
            row["name"],
            "\n".join(filter(None, (row["formula"], row["cost"] and f"cost: {row['cost']}"))),
            f"{row['parameters']:,}",
            settings,
            ", ".join(row["extensions"]),
        )
        table.add_section()
    table.caption = (
        "Parameters: the scheme's own, in the default model (L = 64, 4 heads, width 128). "
        "Cost: beside nope; posx bench measures it here."
    )
    to_stdout().print(table, markup=False)


def extension_rows(schemes: dict[str, tuple[dict[str, Any], Scheme]], catalog: Catalog) -> list[dict[str, Any]]:
    """name, changes, formula, settings, schemes (that it fits) and mask_only (those that it is only a mask to)."""
    rows: list[dict[str, Any]] = [
        {
            "name": "none",
            "changes": "",
            "formula": "the model as it was trained",
            "settings": {},
            "schemes": sorted(schemes),
            "mask_only": [],
        }
    ]
    for name, cls in sorted(known_extensions(catalog).items()):
        config = cls.Config()
        fitting = {n: scheme for n, (_, scheme) in sorted(schemes.items()) if fits(cls, scheme)}
        rows.append(
            {
                "name": name,
                "changes": cls.changes,
                "formula": cls.formula,
                "settings": asdict(config),
                "schemes": list(fitting),
                "mask_only": [n for n, scheme in fitting.items() if only_masks(cls, scheme)],
            }
        )
    return rows


def show_extensions(as_json: bool, catalog: Catalog) -> None:
    """Print the list, and which extension fits which scheme."""
    schemes = _schemes(catalog)
    rows = extension_rows(schemes, catalog)
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    table = Table(title="Test-time extensions", title_justify="left", caption_justify="left")
    for head in ("extension", "changes", "formula", "parameters (default)"):
        table.add_column(head, no_wrap=head == "extension")
    for row in rows:
        settings = ", ".join(f"{k} (by L and ℓ)" if v is None else f"{k}={v}" for k, v in row["settings"].items())
        table.add_row(row["name"], row["changes"], row["formula"], settings)
    table.caption = "Compose with +, set with (): --extension ntk+window, --extension 'pi(s=4)'."
    to_stdout().print(table, markup=False)
    to_stdout().print(_matrix(rows, sorted(schemes)), markup=False)


def _matrix(rows: list[dict[str, Any]], schemes: list[str]) -> Table:
    """Extensions × schemes; those that take the same extensions share a column."""

    def cell(row: dict[str, Any], scheme: str) -> str:
        if scheme not in row["schemes"]:
            return DASH
        return "mask" if scheme in row["mask_only"] else "yes"

    columns: dict[tuple[str, ...], list[str]] = {}
    for scheme in schemes:
        columns.setdefault(tuple(cell(row, scheme) for row in rows), []).append(scheme)
    table = Table(title="Which fits which scheme", title_justify="left", caption_justify="left")
    table.add_column("extension", no_wrap=True)
    for members in columns.values():
        table.add_column("\n".join(members), justify="center", vertical="bottom")
    for number, row in enumerate(rows):
        table.add_row(row["name"], *(cells[number] for cells in columns))
    table.caption = (
        "mask: the scheme knows no distances, so that of the extension only the mask acts. Compose: at most one that "
        "changes the spectrum and one that changes positions or distances; masks intersect, temperatures multiply."
    )
    return table
