"""Types and checks of the arguments that several functions of the API take."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from posx.errors import PosxError
from posx.runs.directory import Run
from posx.utils.console import Display
from posx.utils.progress import Progress

Overrides = Sequence[str] | Mapping[str, Any]  # ["train.steps=100"] or {"train.steps": 100}
OnProgress = Callable[[Progress], None] | Display | None


def check_run(run: object) -> Run:
    """The same run. Raises PosxError for anything else, such as its path."""
    if isinstance(run, Run):
        return run
    is_path = isinstance(run, str | os.PathLike)
    hint = f"Load it: posx.load_run({str(run)!r})." if is_path else "Pass what posx.train or posx.load_run returned."
    raise PosxError(f"Expected a Run, not {describe(run)}.", hint)


def check_path(path: object) -> Path:
    """A path as a Path. Raises PosxError for anything else."""
    if isinstance(path, str | os.PathLike):
        return Path(path)
    hint = f"Pass its path: {str(path.path)!r}." if isinstance(path, Run) else "Pass a string or a pathlib.Path."
    raise PosxError(f"Expected a path, not {describe(path)}.", hint)


def check_list(name: str, values: object, example: str) -> list[Any]:
    """The values as a list. Raises PosxError for a single value: a string would be read letter by letter."""
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping | type):
        return list(values)
    raise PosxError(f"{name} must be a list, not {describe(values)}.", f"Example: {name}={example}.")


def describe(value: object) -> str:
    """A value as an error names it: strings and numbers in full, other values by their class."""
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    return f"an object of class {type(value).__qualname__}"
