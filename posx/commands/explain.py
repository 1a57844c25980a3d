"""posx explain."""

from __future__ import annotations

from typing import Annotated

import typer

from posx.commands.base import ConfigDir, Json, Trust, command, next_step
from posx.errors import PosxError, unknown

TOPICS = ("permutation",)


@command("explain")
def explain(
    topic: Annotated[str | None, typer.Argument(metavar="TOPIC", help="permutation")] = None,
    scheme: Annotated[list[str] | None, typer.Option(help="A scheme; repeat it for several. [all]")] = None,
    json: Json = False,
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Show why order needs a signal: "dog bites man" and "man bites dog", with every scheme and without.

    posx explain permutation --scheme nope --scheme rope
    """
    if topic is None:
        raise PosxError("posx explain wants a topic.", "Try posx explain permutation.")
    if topic not in TOPICS:
        raise unknown("topic", topic, TOPICS)
    from posx.explain import as_json, page, permutations

    found = permutations(scheme, config_dir, trust)
    if json:
        print(as_json(found))
    else:
        from posx.progress import to_stdout
        from posx.tables import show_page

        show_page(page(found), to_stdout())
    next_step("posx schemes")
