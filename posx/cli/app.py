"""The command line: parse, compose, call, print. Imports nothing heavy, so that --help is instant.

Exit codes: 0 done; 1 a run failed; 2 usage, configuration or data; 130 and 143 for signals.
"""

from __future__ import annotations

from typing import Annotated

import typer

from posx import __version__
from posx.cli import (  # noqa: F401 - they enter themselves into the app
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
posx measures length extrapolation: it trains small decoders at a short context, one for each positional
scheme, and evaluates them at longer ones, on the same targets.

  posx sweep quick                      a table of six schemes, in minutes on two cores
  posx train --scheme alibi             one run
  posx eval --length 3000 --length 2x   what happens beyond its training context
  posx table · posx plot · posx report  all evaluations so far, with intervals and verdicts
  posx bundle runs -o results/NAME      runs as a few files to commit, without weights
  posx compare rope:ntk rope:pi         is one better than the other?
  posx train --from RUN --extension pi train.context=4x    fine-tune at a longer context
  posx recommend RUN --length 3000      which extension for this length?
  posx search longrope RUN --length 4x  factors for this model and length, found on validation
  posx schemes · posx extensions        what there is to compare
  posx explain --scheme rope --train-length 2048 --length 3000    what is new to it, in numbers
  posx show rope --extension yarn       a scheme as a picture, and its properties as numbers
  posx explain permutation              why order needs a signal: "dog bites man"
  posx verify                           every scheme beside its formula and somebody else's code
  posx bench                            what each scheme costs here; --scaling: how cost grows
  posx doctor                           what this machine has, and what posx will choose

posx COMMAND --help explains a command.
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


# The order of --help: from the first thing that one does to the last.
ORDER = ["train", "eval", "sweep", "table", "plot", "compare", "report", "recommend", "search", "reproduce", "bench"]
app.registered_commands.sort(key=lambda one: ORDER.index(one.name or "") if one.name in ORDER else len(ORDER))
