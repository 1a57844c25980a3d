"""`posx schemes NAME`, `posx extensions NAME` and `posx extensions --matrix`: details that require the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from posx.analysis.catalog_pages import NO_EXTENSION
from posx.config.catalog import Catalog
from posx.errors import unknown
from posx.extensions.base import Extension
from posx.models.binding import fits, only_masks
from posx.models.build import complete_scheme, compose_run, make_scheme
from posx.models.classes import formula_of, known_extensions, load_class
from posx.models.decoder import model_shape
from posx.reporting.output import Output
from posx.schemes.base import ModelShape, Scheme
from posx.utils.format import DASH

# ---------------------------------------------------------------- schemes


def scheme_details(names: Sequence[str], catalog: Catalog) -> list[dict[str, Any]]:
    """name, formula, cost, paper, parameters (of the scheme in the default model), settings, supported extensions."""
    extensions = known_extensions(catalog)
    return [_scheme_details(name, extensions, catalog) for name in dict.fromkeys(names)]


def _scheme_details(name: str, extensions: dict[str, type[Extension]], catalog: Catalog) -> dict[str, Any]:
    config, scheme = _built(name, _default_shape(), catalog)
    card = catalog.card("scheme", name)
    return {
        "name": name,
        "formula": formula_of("scheme", name, scheme, catalog),
        "cost": card.get("cost", ""),
        "paper": card.get("paper", ""),
        "parameters": sum(p.numel() for p in scheme.parameters()),
        "settings": {key: value for key, value in config.items() if key not in ("name", "_target_")},
        "extensions": sorted(key for key, extension in extensions.items() if fits(extension, scheme)),
    }


def _default_shape() -> ModelShape:
    default = compose_run([])
    return model_shape(default.model, default.train.context)


def _built(name: str, shape: ModelShape, catalog: Catalog) -> tuple[dict[str, Any], Scheme]:
    """The complete config of a scheme, and the scheme built for a model of this shape."""
    config = complete_scheme(name, shape, catalog, f"{name}.")
    return config, make_scheme(config, shape, catalog)


def _all_schemes(catalog: Catalog) -> dict[str, Scheme]:
    shape = _default_shape()
    return {name: _built(name, shape, catalog)[1] for name in sorted(catalog.options("scheme"))}


def describe_schemes(names: Sequence[str], catalog: Catalog) -> Output:
    """The details of these schemes."""
    rows = scheme_details(names, catalog)
    tables = []
    for row in rows:
        table = _titled(row["name"])
        table.add_row("formula", row["formula"] or DASH)
        table.add_row("extra cost over nope", row["cost"] or DASH)
        table.add_row("paper", row["paper"] or DASH)
        table.add_row("parameters", f"{row['parameters']:,} in the default model (L = 64, 4 heads, width 128)")
        table.add_row("settings", "\n".join(f"scheme.{k}={_brief(v)}" for k, v in row["settings"].items()) or DASH)
        table.add_row("supported extensions", ", ".join(row["extensions"]) or DASH)
        tables.append(table)
    return Output(rows, tables)


def _brief(value: Any) -> Any:
    """A value in the syntax of overrides; a nested scheme by its name."""
    if isinstance(value, list):
        return "[" + ",".join(str(_brief(item)) for item in value) + "]"
    return value["name"] if isinstance(value, dict) else "null" if value is None else value


# ---------------------------------------------------------------- extensions


def extension_details(names: Sequence[str], catalog: Catalog) -> list[dict[str, Any]]:
    """name, changes, formula, paper, settings, supported schemes and mask_only (those for which only its mask acts)."""
    schemes = _all_schemes(catalog)
    return [_extension_details(name, schemes, catalog) for name in dict.fromkeys(names)]


def _extension_details(name: str, schemes: dict[str, Scheme], catalog: Catalog) -> dict[str, Any]:
    if name == "none":
        return {**NO_EXTENSION, "settings": {}, "schemes": list(schemes), "mask_only": []}
    if name not in catalog.options("extension"):
        raise unknown("extension", name, [*catalog.options("extension"), "none"])
    cls = load_class(catalog.settings("extension", name).get("_target_"), Extension, catalog)
    fitting = {key: scheme for key, scheme in schemes.items() if fits(cls, scheme)}
    return {
        "name": name,
        "changes": cls.changes,
        "formula": formula_of("extension", name, cls, catalog),
        "paper": catalog.card("extension", name).get("paper", ""),
        "settings": asdict(cls.Config()),
        "schemes": list(fitting),
        "mask_only": [key for key, scheme in fitting.items() if only_masks(cls, scheme)],
    }


def describe_extensions(names: Sequence[str], catalog: Catalog) -> Output:
    """The details of these extensions."""
    rows = extension_details(names, catalog)
    tables = []
    for row in rows:
        table = _titled(row["name"])
        for key in ("changes", "formula", "paper"):
            table.add_row(key, row[key] or DASH)
        settings = [f"{key}={'auto' if value is None else value}" for key, value in row["settings"].items()]
        table.add_row("parameters (default)", ", ".join(settings) or DASH)
        supported = [scheme for scheme in row["schemes"] if scheme not in row["mask_only"]]
        table.add_row("supported schemes", ", ".join(supported) or DASH)
        if row["mask_only"]:
            table.add_row("mask only", ", ".join(row["mask_only"]))
        tables.append(table)
    return Output(rows, tables)


def extension_matrix(names: Sequence[str], catalog: Catalog) -> Output:
    """Which extensions support which schemes, by default for all extensions."""
    rows = extension_details(names or ["none", *sorted(catalog.options("extension"))], catalog)
    values = [{key: row[key] for key in ("name", "schemes", "mask_only")} for row in rows]
    return Output(values, _matrix(rows, sorted(catalog.options("scheme"))))


def _titled(name: str) -> Table:
    table = Table(title=name, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    return table


def _matrix(rows: list[dict[str, Any]], schemes: list[str]) -> list[Table]:
    """Extensions × schemes, and a legend of the columns: schemes that support the same extensions share one."""

    def cell(row: dict[str, Any], scheme: str) -> str:
        if scheme not in row["schemes"]:
            return DASH
        return "mask" if scheme in row["mask_only"] else "yes"

    columns: dict[tuple[str, ...], list[str]] = {}
    for scheme in schemes:
        columns.setdefault(tuple(cell(row, scheme) for row in rows), []).append(scheme)
    table = Table(title="Extensions supported by each scheme", title_justify="left", caption_justify="left")
    legend = Table(show_header=False, caption_justify="left")
    table.add_column("extension", no_wrap=True)
    for number, members in enumerate(columns.values(), 1):
        table.add_column(str(number), justify="center")
        legend.add_row(str(number), ", ".join(members))
    for number, row in enumerate(rows):
        table.add_row(row["name"], *(cells[number] for cells in columns))
    legend.caption = (
        "mask: the scheme does not use distances, so only the extension's mask acts. A composition has at most one "
        "extension that changes the spectrum and one that changes positions or distances; masks intersect and "
        "temperatures multiply."
    )
    return [table, legend]
