"""posx compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from posx.cli.options import Json, RunsDir, command, dir_flag, next_step
from posx.errors import PosxError, unknown


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
    lengths = _lengths(length, left, right, name_a, name_b)
    pairs = differences({n: left[n] for n in lengths}, {n: right[n] for n in lengths})
    if not pairs:
        raise PosxError(f"{name_a} and {name_b} have no number at a length in common.", "posx table says why.")
    if json:
        import json as json_format
        from dataclasses import asdict

        rows = [asdict(pair) | {"a_name": name_a, "b_name": name_b, "verdict": pair.verdict} for pair in pairs]
        print(json_format.dumps(rows, indent=1, ensure_ascii=False))
    else:
        from posx.reporting.formats.terminal import show_page
        from posx.reporting.views import comparison
        from posx.utils.console import to_stdout

        some = next(iter(left.values()))[0]
        show_page(comparison(pairs, name_a, name_b, some), to_stdout())
    next_step(f"posx table{dir_flag(runs_dir)}")


def _cells(rows: dict[int, list[Any]]) -> set[str]:
    """The files of these records."""
    return {str(record.path) for records in rows.values() for record in records}


def _lengths(
    requested: list[str] | None, left: dict[int, Any], right: dict[int, Any], name_a: str, name_b: str
) -> list[int]:
    """The lengths to compare at: the requested ones, which both must have, or all in common."""
    common = sorted(left.keys() & right.keys())
    if not common:
        raise PosxError(
            f"{name_a} was evaluated at {', '.join(map(str, sorted(left)))} and {name_b} at "
            f"{', '.join(map(str, sorted(right)))}: no length in common.",
            "Evaluate both at one length: posx eval A B --length 4x.",
        )
    if not requested:
        return common
    from posx.config.lengths import parse_length

    contexts = {records[0].base_context for side in (left, right) for records in side.values()}
    lengths = []
    for text in requested:
        if text.strip().endswith("x") and len(contexts) > 1:
            raise PosxError(f"{text} means another length for each of the two.", "Give the length in tokens.")
        tokens = parse_length(text, min(contexts))
        if tokens not in common:
            raise PosxError(
                f"{name_a} and {name_b} were not both evaluated at {tokens} tokens.",
                f"There are: {', '.join(map(str, common))}. Or: posx eval RUN --length {tokens}.",
            )
        lengths.append(tokens)
    return sorted(set(lengths))
