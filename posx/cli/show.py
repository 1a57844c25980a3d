"""posx show."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import ConfigDir, Json, Overrides, Trust, command, emit, next_step
from posx.config.catalog import Catalog
from posx.errors import PosxError


@command("show")
def show(
    scheme: Annotated[
        str | None, typer.Argument(metavar="SCHEME", help="Positional scheme; posx schemes lists them.")
    ] = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A .png, .svg or .pdf; without a suffix, .png and .svg. [SCHEME.png]"),
    ] = None,
    extension: Annotated[str, typer.Option(help="Test-time extension to apply: pi, yarn+window …")] = "none",
    length: Annotated[str, typer.Option(help="Positions to draw and measure: tokens, or a multiple of L.")] = "4x",
    json: Json = False,
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Draw a scheme and measure its properties, untrained.

    Drawn: position vectors, rotation angles, what is added to the logits, and the weight by distance (for rope with its
    upper bound). Measured: whether norms are preserved, whether a shift is a rotation, and whether logits depend on
    distance alone.

    With an extension also: wavelengths relative to L, angles before and after, the effective distances of keys, which
    keys are visible, and the temperature.

    posx show rope scheme.base=500 train.context=128 -o rope.svg

    posx show rope --extension yarn --length 4x
    """
    from posx import api

    if scheme is None or "=" in scheme:
        raise PosxError("Missing SCHEME.", "Try posx show rope. posx schemes lists the schemes.")
    shown = api.show(
        scheme, overrides or [], extension=extension, length=length, path=output, catalog=Catalog(config_dir, trust)
    )
    emit(shown, json)
    next_step(" ".join(["posx train --scheme", scheme, *map(shlex.quote, overrides or [])]))
