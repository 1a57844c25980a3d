"""posx explain."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from posx.cli.options import ConfigDir, Json, Overrides, Trust, command, next_step
from posx.config.catalog import Catalog
from posx.errors import PosxError, unknown

TOPICS = ("permutation",)


@command("explain")
def explain(
    topic: Annotated[str | None, typer.Argument(metavar="TOPIC", help="permutation; without one, a case.")] = None,
    overrides: Overrides = None,
    scheme: Annotated[list[str] | None, typer.Option(help="A scheme; repeat it for several.")] = None,
    train_length: Annotated[
        str | None, typer.Option(help="Of a case: tokens that it was trained with, such as 2048.")
    ] = None,
    length: Annotated[
        str | None, typer.Option(help="Of a case: tokens that it is given, or a multiple such as 2x.")
    ] = None,
    extension: Annotated[str | None, typer.Option(help="Of a case: what is done about it: pi, yarn+window …")] = None,
    json: Json = False,
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """What happens past the training context? A model was trained with 2048 tokens and is given 3000:

    posx explain --scheme rope --train-length 2048 --length 3000 --extension pi

    And why order needs a signal: "dog bites man" and "man bites dog", with every scheme and without.

    posx explain permutation --scheme nope --scheme rope
    """
    catalog = Catalog(config_dir, trust)
    given = {"--train-length": train_length, "--length": length, "--extension": extension}
    if topic is not None and "=" in topic:
        overrides, topic = [topic, *(overrides or [])], None
    if topic is not None:
        if topic not in TOPICS:
            raise unknown("topic", topic, TOPICS)
        extra = [*(name for name, value in given.items() if value is not None), *(overrides or [])]
        if extra:
            raise PosxError(f"posx explain {topic} takes no {extra[0]}.", f"A case takes it: leave {topic} out.")
        _permutation(scheme, json, catalog)
    elif not scheme:
        raise PosxError(
            "posx explain wants a case, or a topic.",
            "Try posx explain --scheme rope --train-length 2048 --length 3000, or posx explain permutation.",
        )
    else:
        if length is None:
            raise PosxError("Given how many tokens?", "Add --length 3000, or --length 2x.")
        from posx.analysis.extrapolation import Question

        _cases(scheme, Question(length, train_length, extension, overrides or []), json, catalog)


def _permutation(scheme: list[str] | None, json: bool, catalog: Catalog) -> None:
    from posx.analysis.permutation import as_json, page, permutations

    found = permutations(scheme, catalog)
    if json:
        print(as_json(found))
    else:
        from posx.reporting.formats.terminal import show_page
        from posx.utils.console import to_stdout

        show_page(page(found), to_stdout())
    next_step("posx schemes")


def _cases(schemes: list[str], question: Any, json: bool, catalog: Catalog) -> None:
    from posx.analysis.extrapolation import answer
    from posx.analysis.extrapolation_page import as_json, notes, page

    found = [answer(one, question, catalog) for one in schemes]
    if json:
        print(as_json(found))
    else:
        from posx.reporting.formats.terminal import show_page
        from posx.utils.console import to_stdout

        shown = to_stdout()
        for one in found:
            show_page(page(one), shown)
            for line in notes(one):  # sentences: on a terminal they break between words
                shown.print(line, markup=False, soft_wrap=not shown.file.isatty())
            print("\nMeasure it:")
            for line in one.commands:
                print(f"  {line}")
            print()
    next_step(found[0].commands[0])
