"""The command line: parse, call the API, print. Imports nothing heavy, so that --help is fast.

Exit codes: 0 done; 1 a run failed; 2 usage, configuration or data; 130 and 143 for signals.
"""

from __future__ import annotations

from typing import Annotated

import typer

from posx import __version__
from posx.cli import (  # noqa: F401 - each registers its command
    bench,
    bundle,
    compare,
    config,
    doctor,
    evaluate,
    explain,
    extensions,
    plot,
    recommend,
    report,
    reproduce,
    schemes,
    search,
    show,
    sweep,
    table,
    train,
    verify,
)
from posx.cli.options import app

START = """\
posx measures length extrapolation. It trains small decoders at a short context, one for each positional scheme, and
evaluates them at longer contexts, on the same targets at every length.

  posx sweep quick                      train and evaluate six schemes in minutes, and print a table
  posx train --scheme alibi             train one model
  posx eval --length 3000 --length 2x   evaluate beyond its training context
  posx table · posx plot · posx report  all evaluations so far, with intervals and verdicts
  posx bundle runs -o results/NAME      pack runs into a few files to commit, without weights
  posx compare rope:ntk rope:pi         compare two extensions
  posx train --from RUN --extension pi train.context=4x    fine-tune at a longer context
  posx recommend RUN --length 3000      rank the extensions for a length
  posx search longrope RUN --length 4x  search LongRoPE factors on the validation split
  posx schemes · posx extensions        list the schemes and extensions
  posx explain --scheme rope --train-length 2048 --length 3000    what is new to the model, in numbers
  posx show rope --extension yarn       draw a scheme and measure its properties
  posx explain permutation              why word order requires a positional signal
  posx verify                           check every scheme against papers and reference code
  posx bench                            measure what each scheme costs; --scaling: how cost grows
  posx doctor                           describe this machine and what posx will choose

posx COMMAND --help describes a command.
"""


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"posx {__version__}")
    elif context.invoked_subcommand is None:
        print(START, end="")


# The order in --help follows a user's first steps.
ORDER = ["train", "eval", "sweep", "table", "plot", "compare", "report", "recommend", "search", "reproduce", "bench"]
app.registered_commands.sort(key=lambda entry: ORDER.index(entry.name) if entry.name in ORDER else len(ORDER))
