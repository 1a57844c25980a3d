"""posx train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from posx.cli.options import ConfigDir, Overrides, RunsDir, Trust, command, dir_flag, display, next_step
from posx.config.catalog import Catalog
from posx.config.schema import RunConfig


@command("train")
def train(
    overrides: Overrides = None,
    scheme: Annotated[str | None, typer.Option(help="Positional scheme; posx schemes lists them.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the initial values and batches.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="RUN", help="Fine-tune: start from the weights of this run.")
    ] = None,
    extension: Annotated[
        str | None, typer.Option(help="Train with this extension, at the scale of train.context: pi, ntk …")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Fine-tune without positions (drop) or with skipped positions (pose).")
    ] = None,
    reach: Annotated[
        str | None, typer.Option(help="Longest position that pose simulates: tokens, or a multiple of L (4x).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run. Default: made from its settings.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run, or start it if it does not exist.")
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Estimate time, memory and epochs without training.")
    ] = False,
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
    from posx import api
    from posx.config.compose import as_overrides

    config = _config(as_overrides(flags, overrides or []), start, runs_dir, catalog)
    with display() as progress:
        path = api.run_path(config, runs_dir, name, resume=resume)
        if estimate:
            _show_estimate(api.estimate(config, progress=progress, catalog=catalog))
            next_step("the same command without --estimate")
            return
        run = api.train(config, path, resume=resume, progress=progress, catalog=catalog)
    next_step(f"posx eval {run.name} --length 2x --length 4x{dir_flag(runs_dir)}")


def _config(overrides: list[str], start: str | None, runs_dir: Path, catalog: Catalog) -> RunConfig:
    """The config of a run from scratch, or of a fine-tune of the run ``start``."""
    from posx import api

    if start is None:
        return api.compose(overrides, catalog=catalog)
    return api.compose_finetune(api.find_run(runs_dir, start), overrides, runs_dir=runs_dir, catalog=catalog)


def _show_estimate(values: dict[str, Any]) -> None:
    from rich.table import Table

    from posx.utils.console import to_stdout
    from posx.utils.format import clock

    table = Table(show_header=False, title="Estimate, from three steps of the real model", title_justify="left")
    table.add_row("time", f"{clock(values['seconds'])} at {values['tokens_per_second']:,.0f} tokens/s")
    table.add_row("memory", f"{values['peak_memory_bytes'] / 2**30:.2f} GiB")
    table.add_row("disk", f"{values['checkpoint_bytes'] / 2**20:,.0f} MiB per checkpoint")
    table.add_row("tokens", f"{values['tokens']:,}, {values['epochs']:.2f} epochs of the training split")
    parameters = values["parameters"]
    table.add_row("parameters", f"{parameters['total']:,}, including {parameters['scheme']:,} of the scheme")
    compiled = "; compiled (the estimate is for uncompiled code)" if values["would_compile"] else ""
    table.add_row("on", f"{values['device']}, {values['dtype']}{compiled}")
    to_stdout().print(table, markup=False)
