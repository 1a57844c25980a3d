"""posx reproduce."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import ConfigDir, RunsDir, Trust, command, dir_flag, display, next_step
from posx.config.catalog import Catalog
from posx.errors import PosxError


@command("reproduce")
def reproduce(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="The key of a cell (posx report shows it), or a record.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands; run nothing.")] = False,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train the model again too, in a temporary folder.")
    ] = False,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Print the exact commands behind a number, run the evaluation again, and compare.

    posx reproduce 3f2a91bc
    """
    catalog = Catalog(config_dir, trust)
    from posx.reporting.reproduce import check_same, commands, eval_config, run_of
    from posx.results.query import find_cell

    record = find_cell(runs_dir, cell)
    lines = commands(record, runs_dir, catalog)
    for line in [*lines.train, lines.evaluate]:
        print(line)
    if dry_run:
        next_step("the same command without --dry-run")
        return
    run = run_of(record)
    if run.step == 0 and not from_scratch:
        raise PosxError(
            f"The weights of {run.name} are not here; only its records are.",
            "Add --from-scratch to train it again in a temporary folder, or run the commands above.",
        )
    from posx.evaluation.evaluate import evaluate_all
    from posx.evaluation.plan import make_plan

    with display() as shown, tempfile.TemporaryDirectory() as scratch:
        if from_scratch:
            from posx.training.retrain import train_again

            run = train_again(run, Path(scratch) / "runs", shown, catalog)
        plan = make_plan(run, eval_config(record), catalog)
        records = evaluate_all(plan, shown, Path(scratch) / "eval")
    (again,) = (r for r in records if (r.extension, r.length) == (record.extension, record.length))
    gap = check_same(record, again)
    value = (
        "no number, for the same reason" if again.nats_per_token is None else f"{again.nats_per_token:.6f} nats/token"
    )
    print(f"The same: {value} (difference {gap:+.1e}).")
    next_step(f"posx table{dir_flag(runs_dir)}")
