"""posx bench."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from posx.cli.options import ConfigDir, Json, Overrides, Trust, command, display, emit, next_step
from posx.config.catalog import Catalog
from posx.errors import PosxError

LONGEST_BURST = 600  # seconds
AXES = ("contexts", "widths", "megabytes")
FLAGS = ("--contexts", "--widths", "--corpus-mb")  # of the axes


@command("bench")
def bench(
    overrides: Overrides = None,
    schemes: Annotated[
        str | None, typer.Option(help="Schemes, such as nope,rope; nope is always included. [all]")
    ] = None,
    lengths: Annotated[str | None, typer.Option(help="Evaluation lengths: tokens or multiples. [1x,4x,16x]")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Measurement rounds. [5; --scaling: 3]")] = None,
    burst: Annotated[float | None, typer.Option(help="Seconds of each measurement. [1]")] = None,
    json: Json = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Output path of the table, as Markdown; with --scaling, a folder."),
    ] = None,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Measure how cost grows with context, width and corpus.")
    ] = False,
    contexts: Annotated[
        str | None, typer.Option(help="With --scaling: contexts in tokens, such as 128,256, or none.")
    ] = None,
    widths: Annotated[
        str | None, typer.Option(help="With --scaling: widths (d_model), such as 64,128, or none.")
    ] = None,
    corpus_mb: Annotated[
        str | None, typer.Option(help="With --scaling: megabytes of text, such as 1,4, or none.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="With --scaling: redraw this scaling.json without measuring.")
    ] = None,
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Measure the time and memory of every scheme.

    Time is relative to nope, in training and at each evaluation length, by default with model=small. Schemes take turns
    in short measurements. --scaling trains one scheme at many sizes instead.

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
    from posx import api

    if output is not None:
        api.check_writable(output, folder=scaling)
    options: dict[str, Any] = {"rounds": rounds, "seconds": burst, "command": line, "catalog": catalog}
    if scaling:
        axes = {
            axis: numbers(text, flag)
            for axis, flag, text in zip(AXES, FLAGS, (contexts, widths, corpus_mb), strict=True)
        }
        _scaling(axes, overrides or [], output, source, json, options)
    else:
        _schemes(schemes, lengths, overrides or [], output, json, options)


def _check_flags(given: dict[str, Any], scaling: bool, overrides: list[str]) -> None:
    """Raise PosxError for flags that cannot be combined, before any work."""
    for flag in given:
        if scaling and flag in ("--schemes", "--lengths"):
            raise PosxError(
                f"{flag} does not apply to --scaling.", "It trains one scheme; choose it with the override scheme=NAME."
            )
        if not scaling and flag in (*FLAGS, "--from"):
            raise PosxError(f"{flag} requires --scaling.", f"Add --scaling, or leave out {flag}.")
    if "--from" in given and (overrides or len(given) > 1):
        raise PosxError("--from redraws an earlier measurement.", "Combine it only with --scaling, -o and --json.")
    burst = given.get("--burst")
    if burst is not None and not 0 <= burst <= LONGEST_BURST:
        raise PosxError(f"--burst {burst:g} is not between 0 and {LONGEST_BURST} seconds.", "Try --burst 2.")


def _schemes(
    schemes: str | None,
    lengths: str | None,
    overrides: list[str],
    output: Path | None,
    json: bool,
    options: dict[str, Any],
) -> None:
    """Measure several schemes."""
    from posx import api
    from posx.utils.console import to_stdout

    listed = None if schemes is None else names(schemes, "--schemes", "nope,rope")
    requested = None if lengths is None else names(lengths, "--lengths", "1x,4x")
    console = to_stdout()
    width = console.width if console.file.isatty() else None
    with display() as progress:
        result = api.bench_schemes(listed, requested, overrides, width=width, progress=progress, **options)
    emit(result, json)
    if output is not None:
        api.write_pages(result, output)
        print(f"Wrote {output}.", file=sys.stderr)
    next_step("posx bench --scaling")


def _scaling(
    axes: dict[str, Any],
    overrides: list[str],
    output: Path | None,
    source: Path | None,
    json: bool,
    options: dict[str, Any],
) -> None:
    """Measure one scheme at many sizes, or read an earlier measurement."""
    from posx import api

    if source is not None:
        result, written = api.redraw_growth(source, output)
    else:
        with display() as progress:
            result, written = api.bench_growth(axes, overrides, folder=output, progress=progress, **options)
    emit(result, json)
    if written:
        print(f"Wrote {', '.join(map(str, written))}.", file=sys.stderr)
    next_step("posx bench")


def names(text: str, flag: str, example: str) -> list[str]:
    """``a,b`` as a list. Raises PosxError if it is empty."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise PosxError(f"{flag} is empty.", f"Write {flag} {example}, or leave it out for all.")
    return parts


def numbers(text: str | None, flag: str) -> list[int] | None:
    """``128,256`` as whole numbers, ascending; [] for ``none``, None without the flag."""
    if text is None:
        return None
    if text.strip() == "none":
        return []
    parts = names(text, flag, "128,256")
    for part in parts:
        if not part.isascii() or not part.isdigit() or int(part) == 0:
            raise PosxError(f"{flag}: '{part}' is not a positive whole number.", f"Write {flag} 128,256.")
    return sorted(set(map(int, parts)))
