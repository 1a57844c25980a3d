"""posx bench."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from posx.cli.options import ConfigDir, Json, Overrides, Trust, command, display, next_step
from posx.config.catalog import Catalog
from posx.errors import PosxError

LONGEST_BURST = 600  # seconds
AXES = ("--contexts", "--widths", "--corpus-mb")


@command("bench")
def bench(
    overrides: Overrides = None,
    schemes: Annotated[str | None, typer.Option(help="Which, as nope,rope; nope is always there. [all]")] = None,
    lengths: Annotated[str | None, typer.Option(help="Of evaluation: tokens or multiples. [1x,4x,16x]")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="How often all take a turn. [5; --scaling: 3]")] = None,
    burst: Annotated[float | None, typer.Option(help="Seconds of each burst of work. [1]")] = None,
    json: Json = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the table as Markdown; --scaling: a folder.")
    ] = None,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="How cost grows with context, width and corpus, instead of schemes.")
    ] = False,
    contexts: Annotated[str | None, typer.Option(help="--scaling: tokens, as 128,256; none: leave out.")] = None,
    widths: Annotated[str | None, typer.Option(help="--scaling: d_model, as 64,128; none: leave out.")] = None,
    corpus_mb: Annotated[str | None, typer.Option(help="--scaling: megabytes of text; none: leave out.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="--scaling: draw this scaling.json again; measure nothing.")
    ] = None,
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Time beside nope's and memory of every scheme, in training and at each length; by default at model=small.

    They take turns in short bursts of work; --scaling trains one scheme at many sizes instead.

    posx bench --schemes rope,alibi --lengths 1x,4x -o bench.md
    """
    catalog = Catalog(config_dir, trust)
    flags = {
        "--schemes": schemes,
        "--lengths": lengths,
        "--rounds": rounds,
        "--burst": burst,
        "--contexts": contexts,
        "--widths": widths,
        "--corpus-mb": corpus_mb,
        "--from": source,
    }
    given = {flag: value for flag, value in flags.items() if value is not None}
    _check_flags(given, scaling, overrides or [])
    given |= {"--config-dir": config_dir} if config_dir else {}
    words = [str(word) for pair in given.items() for word in pair]
    words = ["--scaling"] * scaling + words + ["--trust"] * trust
    line = shlex.join(["posx", "bench", *(overrides or []), *words])
    if output is not None:
        _check_writable(output, folder=scaling)
        given["--output"] = output
    from posx.config.compose import as_overrides

    settings = as_overrides([], overrides or [])
    if scaling:
        _scaling(given, settings, catalog, line, json)
    else:
        _schemes(given, settings, catalog, line, json)


def _check_flags(given: dict[str, Any], scaling: bool, overrides: list[str]) -> None:
    """Flags that do not go together, before any work. Raises PosxError."""
    for flag in given:
        if scaling and flag in ("--schemes", "--lengths"):
            raise PosxError(
                f"{flag} is not for --scaling.", "It trains one scheme: name another with the override scheme=NAME."
            )
        if not scaling and flag in (*AXES, "--from"):
            raise PosxError(f"{flag} is for --scaling.", f"Add --scaling, or drop {flag}.")
    if "--from" in given and (overrides or len(given) > 1):
        raise PosxError("--from measures nothing.", "Give it with --scaling, -o and --json alone.")
    burst = given.get("--burst")
    if burst is not None and not 0 <= burst <= LONGEST_BURST:
        raise PosxError(f"--burst takes seconds, 0 to {LONGEST_BURST}, but {burst:g} was given.", "Try --burst 2.")


def _schemes(given: dict[str, Any], settings: list[str], catalog: Catalog, line: str, json: bool) -> None:
    """Measure schemes beside each other."""
    listed = names(given["--schemes"], "--schemes", "nope,rope") if "--schemes" in given else None
    asked = names(given["--lengths"], "--lengths", "1x,4x") if "--lengths" in given else None
    from posx.bench import schemes as cost
    from posx.bench import schemes_page as costs

    plan = cost.make_plan(settings, listed, asked, catalog)
    with display() as shown:
        rows = cost.measure(plan, given.get("--rounds", cost.ROUNDS), _seconds(given), shown, line)
    _show(rows, lambda width: costs.pages(rows, width), json)
    if "--output" in given:
        _write(costs.pages(rows), given["--output"])
    next_step("posx bench --scaling")


def _scaling(given: dict[str, Any], settings: list[str], catalog: Catalog, line: str, json: bool) -> None:
    """Measure one scheme at many sizes, or read what was measured."""
    contexts, widths, corpus_mb = (numbers(given.get(flag), flag) for flag in AXES)
    from posx.bench import growth, growth_page

    if "--from" in given:
        data = growth_page.read(given["--from"])
    else:
        points = growth.make_plan(settings, contexts, widths, corpus_mb, catalog)
        with display() as shown:
            data = growth.measure(points, given.get("--rounds", growth.ROUNDS), _seconds(given), shown, line)
    _show(growth.curves(data), lambda width: growth_page.pages(data), json)
    if "--output" in given:
        written = growth_page.write(data, given["--output"], measured="--from" not in given)
        print(f"Wrote {', '.join(map(str, written))}.", file=sys.stderr)
    next_step("posx bench")


def names(text: str, flag: str, example: str) -> list[str]:
    """``a,b`` as a list. Raises PosxError where there is nothing in it."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise PosxError(f"{flag} names nothing.", f"Write {flag} {example}, or leave it out for all.")
    return found


def numbers(text: str | None, flag: str) -> list[int] | None:
    """``128,256`` as whole numbers, ascending; [] for ``none``, None where the flag was not given."""
    if text is None:
        return None
    if text.strip() == "none":
        return []
    found = names(text, flag, "128,256")
    for part in found:
        if not part.isascii() or not part.isdigit() or int(part) == 0:
            raise PosxError(f"{flag} takes whole numbers from 1, but '{part}' was given.", f"Write {flag} 128,256.")
    return sorted(set(map(int, found)))


def _seconds(given: dict[str, Any]) -> float:
    from posx.bench.schemes import BURST_SECONDS

    seconds: float = given.get("--burst", BURST_SECONDS)
    return seconds


def _check_writable(path: Path, folder: bool) -> None:
    """Before minutes of work, and without leaving anything behind. Raises PosxError."""
    above = path if folder else path.parent
    there = next(p for p in (above.absolute(), *above.absolute().parents) if p.exists())
    reason = ""
    if not there.is_dir():
        reason = f"{there} is a file"
    elif not folder and path.is_dir():
        reason = "it is a directory"
    elif not os.access(there, os.W_OK):
        reason = f"{there} may not be written to"
    if reason:
        raise PosxError(f"{path} cannot be written: {reason}.", "Choose another -o.")


def _show(rows: list[dict[str, Any]], pages: Callable[[int | None], list[Any]], json: bool) -> None:
    """``rows`` as JSON, or ``pages`` for a terminal of so many columns, None where there is no terminal."""
    if json:
        import json as json_format

        print(json_format.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False))
        return
    from posx.reporting.formats.terminal import show_page
    from posx.utils.console import to_stdout

    console = to_stdout()
    for page in pages(console.width if console.file.isatty() else None):
        show_page(page, console)


def _write(pages: list[Any], path: Path) -> None:
    from posx.reporting.formats.markdown import markdown
    from posx.utils.files import write_text

    try:
        write_text(path, "\n".join(map(markdown, pages)))
    except OSError as error:
        raise PosxError(f"{path} cannot be written: {error.strerror or error}.", "Choose another -o.") from None
    print(f"Wrote {path}.", file=sys.stderr)
