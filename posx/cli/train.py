"""posx train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from posx.cli.options import ConfigDir, Overrides, RunsDir, Trust, command, dir_flag, display, next_step
from posx.config.catalog import Catalog


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
    from posx.data.corpus import prepare
    from posx.runs import directory as runs
    from posx.training.estimate import estimate as estimate_run
    from posx.training.finetune import default_name
    from posx.training.loop import train as train_run

    with display() as shown:
        if name is not None:
            runs.check_name(name)
        if estimate:
            from posx.cli.inspection import show_estimate

            corpus = prepare(config.data, config.tokenizer, shown.say)
            show_estimate(estimate_run(config, corpus, catalog))
            next_step("the same command without --estimate")
            return
        chosen = name or (default_name(config) if start else runs.default_name(config))
        if name is None and not resume:
            chosen = runs.free_name(runs_dir, chosen)
        elif not resume and (runs_dir / chosen).exists():
            runs.create(runs_dir, chosen, config, False)  # refuses, before the corpus is built
        corpus = prepare(config.data, config.tokenizer, shown.say)
        check_before_writing(config, corpus)
        run = runs.create(runs_dir, chosen, config, resume)
        if run.finished:
            shown.say(f"{run.path} is finished: step {run.step} of {config.train.steps}.")
        else:
            train_run(run, corpus, shown, catalog)
    next_step(f"posx eval {chosen} --length 2x --length 4x{dir_flag(runs_dir)}")


def _config(overrides: list[str], start: str | None, runs_dir: Path, catalog: Catalog) -> Any:
    """The config of a run from scratch, or of a fine-tune of the run ``start``."""
    from posx.models.build import compose_run
    from posx.runs.directory import find_run
    from posx.training.finetune import compose_finetune, with_weights

    if start is None:
        return compose_run(overrides, catalog)
    first = find_run(runs_dir, start)
    beside = first.path.resolve().parent == runs_dir.resolve()
    stored = first.name if beside else str(first.path.resolve())
    return with_weights(compose_finetune(first.config, stored, overrides, catalog), first)


def check_before_writing(config: Any, corpus: Any) -> None:
    """What can be refused before a run directory is made."""
    from posx.data.sampling import check_long_enough
    from posx.runtime import device as devices

    check_long_enough(corpus, config.train.context)
    devices.pick_device(config.train.device)
