"""posx explain."""

from __future__ import annotations

from typing import Annotated

import typer

from posx.cli.options import ConfigDir, Json, Overrides, Trust, command, emit, next_step
from posx.config.catalog import Catalog
from posx.errors import PosxError, unknown

TOPICS = ("permutation",)


@command("explain")
def explain(
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="permutation. Without a topic, --scheme and --length.")
    ] = None,
    overrides: Overrides = None,
    scheme: Annotated[list[str] | None, typer.Option(help="Positional scheme; repeatable.")] = None,
    train_length: Annotated[str | None, typer.Option(help="Training context in tokens, such as 2048.")] = None,
    length: Annotated[str | None, typer.Option(help="Evaluation length: tokens (3000) or a multiple (2x).")] = None,
    extension: Annotated[str | None, typer.Option(help="Test-time extension to apply: pi, yarn+window …")] = None,
    json: Json = False,
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Explain what is new to a scheme at a longer length.

    For a model trained at 2048 tokens and evaluated at 3000:

    posx explain --scheme rope --train-length 2048 --length 3000 --extension pi

    Why word order requires a positional signal, shown with "dog bites man" and "man bites dog":

    posx explain permutation --scheme nope --scheme rope
    """
    from posx import api

    catalog = Catalog(config_dir, trust)
    if topic is not None and "=" in topic:
        overrides, topic = [topic, *(overrides or [])], None
    if topic is not None:
        if topic not in TOPICS:
            raise unknown("topic", topic, TOPICS)
        flags = {"--train-length": train_length, "--length": length, "--extension": extension}
        extra = [*(flag for flag, value in flags.items() if value is not None), *(overrides or [])]
        if extra:
            raise PosxError(f"posx explain {topic} does not support {extra[0]}.", f"Leave out {extra[0]} or {topic}.")
        emit(api.explain_permutation(scheme, catalog=catalog), json)
        next_step("posx schemes")
        return
    if not scheme:
        raise PosxError(
            "posx explain needs --scheme or a topic.",
            "Try posx explain --scheme rope --train-length 2048 --length 3000, or posx explain permutation.",
        )
    if length is None:
        raise PosxError("Missing --length.", "For example: --length 3000 or --length 2x.")
    output = api.explain(scheme, length, train_length, extension=extension, overrides=overrides or [], catalog=catalog)
    emit(output, json)
    next_step(output.values[0]["commands"][0])
