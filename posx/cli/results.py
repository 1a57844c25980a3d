"""What is made of records: posx table, plot, compare, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from posx.cli.options import Json, Output, RunsDir, command, dir_flag, display, next_step
from posx.errors import PosxError, unknown

Runs = Annotated[list[str] | None, typer.Argument(metavar="RUN", help="Runs; all, if left out.")]


@command("table")
def table(
    runs: Runs = None,
    form: Annotated[str | None, typer.Option("--format", help="rich, md, csv, latex or json.")] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="fixed-targets, non-overlapping, stream or curve; all: side by side. [fixed-targets if any]"),
    ] = None,
    output: Output = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """nats/token, perplexity, change against 1x with its interval, and verdict: for all evaluations so far.

    Intervals are crossed bootstraps over documents and seeds, simultaneous over the table (docs/protocol.md).
    """
    from posx.config.schema import PROTOCOLS
    from posx.reporting.formats import find_format
    from posx.reporting.grouping import ALL, choose
    from posx.results.aggregate import aggregate
    from posx.results.records import read_records

    chosen = find_format(form, output)
    if protocol is not None and protocol not in (*PROTOCOLS, ALL):
        raise unknown("protocol", protocol, (*PROTOCOLS, ALL))
    everything = aggregate(read_records(runs_dir, runs or []))
    cells = choose(everything, protocol)
    evaluated = sorted({cell.comparison.protocol for cell in everything})
    if not cells:
        wanted = protocol or "any protocol that a table shows"
        raise PosxError(f"There are no evaluations under {wanted}.", f"There are some under {', '.join(evaluated)}.")
    side_by_side = protocol == ALL
    if chosen.render is None:
        from posx.reporting.formats.terminal import show
        from posx.utils.console import to_stdout

        show(cells, to_stdout(), side_by_side)
        others = [name for name in evaluated if name not in {cell.comparison.protocol for cell in cells}]
        if others:
            print(f"Also evaluated: {', '.join(others)} (--protocol NAME, or all).", file=sys.stderr)
    elif output is None:
        sys.stdout.write(chosen.render(cells, side_by_side))
    else:
        _write(output, chosen.render(cells, side_by_side))
    next_step(f"posx plot{dir_flag(runs_dir)}, posx report{dir_flag(runs_dir)}")


def _write(output: Path, text: str) -> None:
    from posx.utils.files import write_text

    try:
        write_text(output, text)
    except OSError as error:
        raise PosxError(f"{output} cannot be written: {error.strerror}.", "Choose another -o.") from None
    print(f"Wrote {output}.", file=sys.stderr)


@command("plot")
def plot(
    runs: Runs = None,
    kind: Annotated[str, typer.Option(help="length, position, gain or finetune.")] = "length",
    by: Annotated[
        str | None,
        typer.Option(
            help="--kind position: over context (in whole windows), place (in documents), document. [context]"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where to; .png and .svg are written. [RUNS_DIR/KIND]"),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Draw what the evaluations found, with intervals; as PNG and SVG.

    length: perplexity over the evaluation context. position: nats over the available context, or the change over the
    place in the document. gain: share of what a long training gains. finetune: over the steps of a fine-tune.
    """
    from posx.reporting.grouping import choose
    from posx.results.aggregate import aggregate
    from posx.results.records import read_records

    cells = aggregate(read_records(runs_dir, runs or []))
    from posx.reporting.plots import plot as draw

    stem = output or runs_dir / ("perplexity" if kind == "length" else kind)
    if stem.suffix in (".png", ".svg"):
        stem = stem.with_suffix("")
    for path in draw(kind, choose(cells, None) if kind == "length" else cells, stem, by):
        print(path)
    next_step(f"posx table{dir_flag(runs_dir)}, posx report{dir_flag(runs_dir)}")


@command("compare")
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A run, or a row with all its seeds; rope:pi: with pi.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What to compare it with.")],
    length: Annotated[
        list[str] | None, typer.Option(help="Tokens or a multiple of L; repeatable. All that both have, if left out.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="fixed-targets, non-overlapping or stream.")] = "fixed-targets",
    json: Json = False,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Paired difference of two runs, groups of seeds or extensions, on the same targets, with 95 % intervals.

    posx compare rope:ntk rope:pi --length 4x
    """
    from posx.config.schema import TABLED
    from posx.results.compare import differences
    from posx.results.query import find_row

    if protocol not in TABLED:
        raise unknown("protocol", protocol, TABLED)
    name_a, left = find_row(runs_dir, a, protocol)
    name_b, right = find_row(runs_dir, b, protocol)
    if _cells(left) & _cells(right):
        raise PosxError(
            f"{name_a} would be compared with itself ({name_b}).", "Name two rows, such as rope:pi and rope:ntk."
        )
    wanted = _lengths(length, left, right, name_a, name_b)
    found = differences({n: left[n] for n in wanted}, {n: right[n] for n in wanted})
    if not found:
        raise PosxError(f"{name_a} and {name_b} have no number at a length in common.", "posx table says why.")
    if json:
        import json as json_format
        from dataclasses import asdict

        rows = [asdict(one) | {"a_name": name_a, "b_name": name_b, "verdict": one.verdict} for one in found]
        print(json_format.dumps(rows, indent=1, ensure_ascii=False))
    else:
        from posx.reporting.formats.terminal import show_page
        from posx.reporting.views import comparison
        from posx.utils.console import to_stdout

        some = next(iter(left.values()))[0]
        show_page(comparison(found, name_a, name_b, some), to_stdout())
    next_step(f"posx table{dir_flag(runs_dir)}")


def _cells(rows: dict[int, list[Any]]) -> set[str]:
    return {str(record.path) for records in rows.values() for record in records}


def _lengths(
    asked: list[str] | None, left: dict[int, Any], right: dict[int, Any], name_a: str, name_b: str
) -> list[int]:
    """The lengths to compare at: those asked, which both must have, or all in common."""
    common = sorted(left.keys() & right.keys())
    if not common:
        raise PosxError(
            f"{name_a} was evaluated at {', '.join(map(str, sorted(left)))} and {name_b} at "
            f"{', '.join(map(str, sorted(right)))}: no length in common.",
            "Evaluate both at one length: posx eval A B --length 4x.",
        )
    if not asked:
        return common
    from posx.config.lengths import parse_length  # imports torch

    contexts = {records[0].base_context for side in (left, right) for records in side.values()}
    found = []
    for text in asked:
        if text.strip().endswith("x") and len(contexts) > 1:
            raise PosxError(f"{text} means another length for each of the two.", "Give the length in tokens.")
        tokens = parse_length(text, min(contexts))
        if tokens not in common:
            raise PosxError(
                f"{name_a} and {name_b} were not both evaluated at {tokens} tokens.",
                f"There are: {', '.join(map(str, common))}. Or: posx eval RUN --length {tokens}.",
            )
        found.append(tokens)
    return sorted(set(found))


@command("report")
def report(
    runs: Runs = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to. [RUNS_DIR/report.html]")] = None,
    title: Annotated[str, typer.Option(help="Its heading.")] = "",
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """One self-contained HTML page: question, set-up, tables with verdicts, all plots, costs, and every config.

    It needs no network and no script; tables can be sorted where scripts run.
    """
    from posx.results.records import read_records

    records = read_records(runs_dir, runs or [])
    from posx.reporting.page import write_report

    target = output or runs_dir / "report.html"
    if target.is_dir():
        raise PosxError(f"{target} is a directory.", "Name a file: -o report.html.")
    with display() as shown:
        write_report(records, runs_dir, target, title, shown.say)
    print(target)
    next_step(f"open {target} in a browser")
