"""posx train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import ConfigDir, Overrides, RunsDir, Trust, command, dir_flag, display, next_step
from posx.config.catalog import Catalog
from posx.config.schema import RunConfig


@command("train")
def train(
    overrides: Overrides = None,
    scheme: Annotated[str | None, typer.Option(help="Positional scheme; posx schemes lists them.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of initial values and batches.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="RUN", help="Fine-tune: start from the weights of this run.")
    ] = None,
    extension: Annotated[
        str | None, typer.Option(help="Train with this extension, at the scale of train.context: pi, ntk …")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Fine-tune without positions (drop), or with such that skip (pose).")
    ] = None,
    reach: Annotated[str | None, typer.Option(help="How far pose skips: tokens, or a multiple of L (4x).")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; made from its settings if left out.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run of that name, or start it.")] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="Time, memory and epochs; trains nothing.")] = False,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Train one model with one positional scheme.

    posx train --scheme alibi train.context=128 train.steps=1000

    posx train --from RUN --extension pi train.context=4x train.steps=200

    posx train --from RUN --recipe pose --extension pi --reach 4x train.steps=200
    """
    catalog = Catalog(config_dir, trust)
    flags = [
        ("--scheme", "scheme", scheme),
        ("--seed", "train.seed", seed),
        ("--extension", "train.extension", extension),
        ("--recipe", "train.recipe", recipe),
        ("--reach", "train.reach", reach),
    ]
    from posx.config.compose import as_overrides

    config = _config(as_overrides(flags, overrides or []), start, runs_dir, catalog)
    from posx import api
    from posx.runs import directory as runs

    with display() as shown:
        if name is not None:
            runs.check_name(name)
        if estimate:
            from posx.cli.inspection import show_estimate

            show_estimate(api.estimate(config, progress=shown, catalog=catalog))
            next_step("the same command without --estimate")
            return
        path = runs_dir / name if name else api.default_path(config, runs_dir, resume=resume)
        run = api.train(config, path, resume=resume, progress=shown, catalog=catalog)
    next_step(f"posx eval {run.name} --length 2x --length 4x{dir_flag(runs_dir)}")


def _config(overrides: list[str], start: str | None, runs_dir: Path, catalog: Catalog) -> RunConfig:
    """The config of a run from scratch, or of a fine-tune of the run ``start``."""
    from posx import api
    from posx.runs.directory import find_run

    if start is None:
        return api.compose(overrides, catalog=catalog)
    return api.compose_finetune(find_run(runs_dir, start), overrides, runs_dir=runs_dir, catalog=catalog)
