"""What schemes cost on this machine, and how cost grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posx.api.arguments import OnProgress
from posx.config.catalog import PACKAGED, Catalog
from posx.errors import PosxError
from posx.reporting.output import Output
from posx.utils.progress import as_display


def bench_schemes(
    schemes: Sequence[str] | None = None,
    lengths: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    *,
    rounds: int | None = None,
    seconds: float | None = None,
    width: int | None = None,
    command: str = "",
    progress: OnProgress = None,
    catalog: Catalog = PACKAGED,
) -> Output:
    """Time relative to nope, and memory, of every scheme in training and at each evaluation length. Raises PosxError.

    Schemes take turns in bursts of ``seconds``, ``rounds`` times. ``command`` is stored with the result. ``width`` is
    that of the terminal, in columns.
    """
    from posx.bench import schemes as cost
    from posx.bench import schemes_page
    from posx.config.compose import as_overrides

    texts = as_overrides([], overrides)
    plan = cost.make_plan(texts, _listed(schemes), _listed(lengths), catalog)
    rounds = cost.ROUNDS if rounds is None else rounds
    rows = cost.measure(plan, rounds, _burst(seconds), as_display(progress), command)
    return Output(rows, schemes_page.pages(rows, width))


def bench_growth(
    axes: dict[str, Sequence[int] | None] | None = None,
    overrides: Sequence[str] = (),
    *,
    rounds: int | None = None,
    seconds: float | None = None,
    folder: Path | None = None,
    command: str = "",
    progress: OnProgress = None,
    catalog: Catalog = PACKAGED,
) -> tuple[Output, list[Path]]:
    """How time and memory grow with ``axes``: contexts (tokens), widths (d_model), megabytes of text.

    An axis that is None has its defaults, and an empty one is left out. Returns the fitted curves, and the files that
    were written to ``folder``. Raises PosxError.
    """
    from posx.bench import growth
    from posx.config.compose import as_overrides

    contexts, widths, megabytes = (_numbers((axes or {}).get(axis)) for axis in ("contexts", "widths", "megabytes"))
    points = growth.make_plan(as_overrides([], overrides), contexts, widths, megabytes, catalog)
    rounds = growth.ROUNDS if rounds is None else rounds
    data = growth.measure(points, rounds, _burst(seconds), as_display(progress), command)
    return _growth(data, folder, measured=True)


def redraw_growth(path: Path, folder: Path | None = None) -> tuple[Output, list[Path]]:
    """The result of :func:`bench_growth` from its scaling.json; nothing is measured. Raises PosxError."""
    from posx.bench import growth_page

    return _growth(growth_page.read(path), folder, measured=False)


def _growth(data: dict[str, Any], folder: Path | None, measured: bool) -> tuple[Output, list[Path]]:
    from posx.bench import growth, growth_page

    written = [] if folder is None else growth_page.write(data, folder, measured=measured)
    return Output(growth.curves(data), growth_page.pages(data)), written


def write_pages(output: Output, path: Path) -> None:
    """Write the tables of an Output as Markdown. Raises PosxError."""
    from posx.reporting.formats.markdown import markdown
    from posx.reporting.table import Page
    from posx.utils.files import write_text

    pages = [block for block in output.blocks if isinstance(block, Page)]
    try:
        write_text(path, "\n".join(map(markdown, pages)))
    except OSError as error:
        raise PosxError(f"{path} cannot be written: {error.strerror or error}.", "Choose another -o.") from None


def check_writable(path: Path, folder: bool = False) -> None:
    """Raise PosxError if a file, or a ``folder``, cannot be written here. Creates nothing."""
    parent = path if folder else path.parent
    existing = next(p for p in (parent.absolute(), *parent.absolute().parents) if p.exists())
    reason = ""
    if not existing.is_dir():
        reason = f"{existing} is a file"
    elif not folder and path.is_dir():
        reason = "it is a directory"
    elif not os.access(existing, os.W_OK):
        reason = f"{existing} is not writable"
    if reason:
        raise PosxError(f"{path} cannot be written: {reason}.", "Choose another -o.")


def _listed(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _numbers(values: Sequence[int] | None) -> list[int] | None:
    return None if values is None else sorted(set(values))


def _burst(seconds: float | None) -> float:
    from posx.bench.schemes import BURST_SECONDS

    return BURST_SECONDS if seconds is None else seconds
