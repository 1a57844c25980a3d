"""The command line: parse, compose, call, print. Imports nothing heavy, so that --help is instant.

Exit codes: 0 done; 1 a run failed; 2 usage, configuration or data; 130 and 143 for signals.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from posx import __version__
from posx.errors import PosxError

app = typer.Typer(
    name="posx",
    help="How far does a positional scheme carry a language model past the length it was trained at?",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)

START = """\
posx measures length extrapolation: it trains small decoders at a short context, one for each positional
scheme, and evaluates them at longer ones, on the same targets.

  posx sweep quick                      a table of six schemes, in minutes on two cores
  posx train --scheme alibi             one run
  posx eval --length 3000 --length 2x   what happens beyond its training context
  posx table · posx plot                all evaluations so far
  posx schemes · posx extensions        what there is to compare
  posx doctor                           what this machine has, and what posx will choose

posx COMMAND --help explains a command.
"""

RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Where runs are kept.")]
ConfigDir = Annotated[
    Path | None,
    typer.Option("--config-dir", help="A folder of your own with scheme/, extension/, … that adds options."),
]
Trust = Annotated[bool, typer.Option("--trust", help="Load schemes and extensions from packages outside posx.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="OVERRIDES", help="Settings, such as train.steps=100 model=small."),
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write to this file.")]


def command(name: str, **options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose errors are sentences and whose interruption is exit code 130."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except PosxError as error:
                fail(error)
            except KeyboardInterrupt:
                print("Interrupted.", file=sys.stderr)
                raise typer.Exit(130) from None

        return app.command(name, **options)(guarded)

    return register


def fail(error: PosxError) -> None:
    """Print the sentence and its way out; leave with the error's exit code."""
    from posx.progress import console

    shown = console(stderr=True)
    shown.print("Error: ", style="bold red", end="")
    shown.print(error.message, markup=False, soft_wrap=True)
    if error.hint:
        shown.print(error.hint, markup=False, soft_wrap=True)
    raise typer.Exit(error.code)


@contextmanager
def display(quiet: bool = False) -> Iterator[Any]:
    """Progress on standard error."""
    from posx.progress import Display

    with Display(quiet) as shown:
        yield shown


def next_step(text: str) -> None:
    """What to do after a finished command; on standard error, so that pipes and JSON stay clean."""
    print(f"Next: {text}", file=sys.stderr)


def runs_and_overrides(arguments: list[str] | None, runs_dir: Path) -> tuple[list[str], list[str]]:
    """Tell RUNs from OVERRIDES: an argument with ``=`` is an override, unless such a path exists."""
    runs: list[str] = []
    overrides: list[str] = []
    for argument in arguments or []:
        is_run = "=" not in argument or Path(argument).exists() or (runs_dir / argument).exists()
        (runs if is_run else overrides).append(argument)
    return runs, overrides


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"posx {__version__}")
    elif context.invoked_subcommand is None:
        print(START, end="")


@command("train")
def train(
    overrides: Overrides = None,
    scheme: Annotated[str | None, typer.Option(help="Positional scheme; posx schemes lists them.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of initial values and batches.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; made from its settings if left out.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run of that name, or start it.")] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="Time, memory and epochs; trains nothing.")] = False,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Train one model with one positional scheme.

    posx train --scheme alibi train.context=128 train.steps=1000
    """
    from posx.compose import as_overrides, compose_run

    flags = [("--scheme", "scheme", scheme), ("--seed", "train.seed", seed)]
    config = compose_run(as_overrides(flags, overrides or []), config_dir, trust)
    from posx import runs
    from posx.corpus import prepare
    from posx.train import estimate as estimate_run
    from posx.train import train as train_run

    with display() as shown:
        if name is not None:
            runs.check_name(name)
        if estimate:
            from posx.doctor import show_estimate

            corpus = prepare(config.data, config.tokenizer, shown.say)
            show_estimate(estimate_run(config, corpus, trust))
            next_step("the same command without --estimate")
            return
        chosen = name or runs.default_name(config)
        if name is None and not resume:
            chosen = runs.free_name(runs_dir, chosen)
        elif not resume and (runs_dir / chosen).exists():
            runs.create(runs_dir, chosen, config, False, trust)  # refuses, before the corpus is built
        corpus = prepare(config.data, config.tokenizer, shown.say)
        check_before_writing(config, corpus)
        run = runs.create(runs_dir, chosen, config, resume, trust)
        if run.finished:
            shown.say(f"{run.path} is finished: step {run.step} of {config.train.steps}.")
        else:
            train_run(run, corpus, shown, trust)
    next_step(f"posx eval {chosen} --length 2x --length 4x{_dir_flag(runs_dir)}")


def check_before_writing(config: Any, corpus: Any) -> None:
    """What can be refused before a run directory is made."""
    from posx import machine, windows

    windows.check_long_enough(corpus, config.train.context)
    machine.pick_device(config.train.device)


def _dir_flag(runs_dir: Path) -> str:
    return "" if runs_dir == Path("runs") else f" --runs-dir {runs_dir}"


@command("eval")
def evaluate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN | OVERRIDES", help="Runs, by name or path; eval.* settings."),
    ] = None,
    length: Annotated[
        list[str] | None,
        typer.Option(help="Tokens (3000) or a multiple of the training context (2x); repeatable."),
    ] = None,
    extension: Annotated[
        list[str] | None,
        typer.Option(help="Test-time extension: none, pi, ntk+window, pi(s=4) …; repeatable."),
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="fixed-targets, non-overlapping or stream.")] = None,
    json: Json = False,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Perplexity at other lengths: on the same targets, with the 1x control. Without RUN, the newest finished run.

    posx eval --length 3000 --length 2x --extension none --extension pi
    """
    from posx.compose import as_overrides, compose_eval

    names, overrides = runs_and_overrides(arguments, runs_dir)
    flags = [
        ("--length", "eval.lengths", length),
        ("--extension", "eval.extensions", extension),
        ("--protocol", "eval.protocol", protocol),
    ]
    config = compose_eval(as_overrides(flags, overrides), config_dir)
    from posx import runs
    from posx.evaluate import evaluate_all, make_plan, nothing_computed
    from posx.statistics import aggregate
    from posx.windows import comparable

    chosen = [runs.find_run(runs_dir, n, trust) for n in names] or [runs.newest_finished(runs_dir, trust)]
    config = comparable(config, [run.config.train.context for run in chosen])
    plans = [make_plan(run, config, config_dir, trust) for run in chosen]
    with display() as shown:
        if not names:
            shown.say(f"The newest finished run is {chosen[0].name}.")
        records, refused = [], []
        for plan in plans:
            try:
                found = evaluate_all(plan, shown, trust)
                records += found
                error = nothing_computed(plan, found)
            except PosxError as failure:
                error = failure
            if error is not None:
                refused.append(error)
                if len(plans) > 1:
                    shown.say(str(error))
        if len(refused) == len(plans):
            raise refused[0]
        if json:
            import json as json_format
            from dataclasses import asdict

            print(json_format.dumps([asdict(r) for r in records], indent=1, ensure_ascii=False))
        else:
            from posx.progress import to_stdout
            from posx.tables import show

            show(aggregate(records), to_stdout())
    next_step(f"posx table{_dir_flag(runs_dir)}, posx plot{_dir_flag(runs_dir)}")


@command("sweep")
def sweep(
    sweep: Annotated[str, typer.Argument(help="quick, another name from configs/sweep, or a YAML file.")],
    overrides: Overrides = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Jobs at a time; chosen by the machine if left out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the jobs; run none.")] = False,
    runs_dir: RunsDir = Path("runs"),
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Train and evaluate many schemes; a second call does only what is missing.

    posx sweep quick
    """
    from posx.compose import as_overrides
    from posx.sweep import find_sweep, read_sweep

    path = find_sweep(sweep, config_dir)
    with display() as shown:
        plan = read_sweep(path, as_overrides([], overrides or []), shown.say, config_dir, trust)
        if dry_run:
            from posx.sweep import show_jobs

            show_jobs(plan, runs_dir)
            next_step("the same command without --dry-run")
            return
        from posx.sweep import run_sweep

        records, jobs = run_sweep(plan, runs_dir, workers, shown)
    from posx.report_files import write_results

    write_results(records, runs_dir / plan.name, shown)
    failed = [job for job in jobs if job.state != "done"]
    for job in failed:
        shown.say(f"{job.name} failed: {job.last_words} (log: {job.log})")
    if failed:
        shown.say(f"{len(failed)} of {len(jobs)} jobs failed. The same command tries them again, and only them.")
        raise typer.Exit(1)
    next_step(f"posx eval {jobs[-1].name} --length 3000{_dir_flag(runs_dir)}, posx train --help for a run of your own")


@command("table")
def table(
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN", help="Runs; all, if left out.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="rich, md, csv, latex or json.")] = None,
    output: Output = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Perplexity by length, a row for each scheme and extension, from all evaluations so far."""
    from posx.records import read_records
    from posx.statistics import aggregate
    from posx.tables import FORMATS, render, show

    chosen = form or {".md": "md", ".csv": "csv", ".tex": "latex", ".json": "json"}.get(
        output.suffix if output else "", "md" if output else "rich"
    )
    if chosen not in FORMATS:
        from posx.errors import unknown

        raise unknown("format", chosen, FORMATS)
    cells = aggregate(read_records(runs_dir, runs or []))
    if chosen == "rich":
        if output is not None:
            raise PosxError("The rich format is for a terminal.", "For a file take --format md, csv, latex or json.")
        from posx.progress import to_stdout

        show(cells, to_stdout())
        next_step(f"posx plot{_dir_flag(runs_dir)}, posx table --format latex -o table.tex{_dir_flag(runs_dir)}")
        return
    text = render(cells, chosen)
    if output is None:
        sys.stdout.write(text)
        next_step(f"posx plot{_dir_flag(runs_dir)}")
        return
    from posx.files import write_text

    try:
        write_text(output, text)
    except OSError as error:
        raise PosxError(f"{output} cannot be written: {error.strerror}.", "Choose another -o.") from None
    print(f"Wrote {output}.", file=sys.stderr)
    next_step(f"posx plot{_dir_flag(runs_dir)}")


@command("plot")
def plot(
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN", help="Runs; all, if left out.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where to; .png and .svg are written. [RUNS_DIR/perplexity]"),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Draw perplexity over length, a line for each scheme and extension; as PNG and SVG."""
    from posx.records import read_records
    from posx.statistics import aggregate

    cells = aggregate(read_records(runs_dir, runs or []))
    from posx.plots import plot_perplexity

    stem = output or runs_dir / "perplexity"
    if stem.suffix in (".png", ".svg"):
        stem = stem.with_suffix("")
    for path in plot_perplexity(cells, stem):
        print(path)
    next_step(f"posx table{_dir_flag(runs_dir)}, posx eval --length 3000{_dir_flag(runs_dir)}")


@command("schemes")
def schemes(json: Json = False, config_dir: ConfigDir = None, trust: Trust = False) -> None:
    """List the positional schemes: formula, trainable parameters, extensions that fit."""
    from posx.listing import show_schemes

    show_schemes(json, config_dir, trust)
    next_step("posx train --scheme NAME")


@command("extensions")
def extensions(json: Json = False, config_dir: ConfigDir = None, trust: Trust = False) -> None:
    """List the test-time extensions: what they change, and the schemes that they fit."""
    from posx.listing import show_extensions

    show_extensions(json, config_dir, trust)
    next_step("posx eval --extension NAME --length 4x")


@command("config")
def config(
    overrides: Overrides = None,
    scheme: Annotated[str | None, typer.Option(help="Positional scheme.")] = None,
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Print the resolved config of a run and of its evaluation, as YAML."""
    from posx.compose import as_overrides, compose_eval, compose_run, to_yaml
    from posx.config import EvalRoot

    given = as_overrides([("--scheme", "scheme", scheme)], overrides or [])
    to_eval = [o for o in given if o.lstrip("+~").startswith("eval.")]
    run = compose_run([o for o in given if o not in to_eval], config_dir, trust)
    print(to_yaml(run) + to_yaml(EvalRoot(compose_eval(to_eval, config_dir))), end="")
    next_step(f"posx train {' '.join(o for o in given if o not in to_eval)}".rstrip())


@command("doctor")
def doctor(json: Json = False) -> None:
    """Say what this machine has, and what posx will choose."""
    from posx.doctor import show_machine

    show_machine(json)
    next_step("posx sweep quick")
