"""The formats of tables: each module of this folder defines one or more :class:`Format`.

A new format is one new file here. Nothing in this folder imports torch.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from posx.errors import PosxError, unknown
from posx.reporting.formats.base import Format
from posx.results.cells import Cell

FOR_TERMINALS, FOR_FILES = "rich", "md"  # defaults without a format or a known suffix


@cache
def formats() -> dict[str, Format]:
    """All formats by name."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    values = [value for module in modules for value in vars(module).values() if isinstance(value, Format)]
    return {form.name: form for form in values}


def find_format(name: str | None = None, file: Path | None = None) -> Format:
    """The format of this name, or of the file's suffix if there is no name. Raises PosxError."""
    if name is None:
        suffixes = {form.suffix: form.name for form in formats().values() if form.suffix}
        name = FOR_TERMINALS if file is None else suffixes.get(file.suffix, FOR_FILES)
    if name not in formats():
        raise unknown("format", name, formats())
    form = formats()[name]
    if file is not None and form.render is None:
        names = sorted(form.name for form in formats().values() if form.render)
        raise PosxError(
            f"The {name} format is for a terminal.", f"For a file, use --format {', '.join(names[:-1])} or {names[-1]}."
        )
    return form


def render(cells: list[Cell], name: str, side_by_side: bool = False) -> str:
    """The text of a file with the tables of ``cells`` in the format of this name. Raises PosxError."""
    form = formats()[name]
    if form.render is None:
        raise PosxError(f"The {name} format is for a terminal.")
    return form.render(cells, side_by_side)
