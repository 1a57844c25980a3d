"""posx show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from posx.cli.options import ConfigDir, Json, Overrides, Trust, command, next_step
from posx.config.catalog import Catalog
from posx.errors import PosxError


def named(scheme: str, extension: str) -> str:
    """A file's name: ``rope``, ``rope-yarn``, ``rope-pi-s-4-window``."""
    return "-".join([scheme, *re.findall(r"[\w.]+", extension)]) if extension != "none" else scheme


@command("show")
def show(
    scheme: Annotated[str | None, typer.Argument(metavar="SCHEME", help="posx schemes lists them.")] = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A .png, .svg or .pdf; without a suffix .png and .svg. [SCHEME.png]"),
    ] = None,
    extension: Annotated[
        str, typer.Option(help="What an extension makes of it at that length: pi, yarn+window …")
    ] = "none",
    length: Annotated[str, typer.Option(help="Positions to draw and measure: tokens, or a multiple of L.")] = "4x",
    json: Json = False,
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Draw what a scheme is, before any training, and measure its properties.

    Position vectors, rotation angles, what is added to logits, and the weight by distance, with rope's decay and its
    bound. Measured: whether norms are kept, a shift is a rotation, and logits depend on distance alone.

    With an extension also wavelengths against L, angles before and after, how far keys seem to be, which are seen, and
    how sharply queries look.

    posx show rope scheme.base=500 train.context=128 -o rope.svg

    posx show rope --extension yarn --length 4x
    """
    catalog = Catalog(config_dir, trust)
    if scheme is None or "=" in scheme:
        raise PosxError("posx show wants a scheme.", "Try posx show rope; posx schemes lists what there is.")
    from posx.config.compose import as_overrides
    from posx.models.build import compose_run

    config = compose_run(as_overrides([("SCHEME", "scheme", scheme)], overrides or []), catalog)
    from posx.analysis.panels.drawing import draw, files
    from posx.analysis.properties import make_subject, measure
    from posx.analysis.properties_page import as_json, page

    subject = make_subject(config, length, catalog, extension)
    paths = files(output or Path(f"{named(scheme, subject.label)}.png"))
    properties = measure(subject)
    written = draw(subject, paths)
    if json:
        print(as_json(subject, properties, written))
    else:
        from posx.reporting.formats.terminal import show_page
        from posx.utils.console import to_stdout

        show_page(page(subject, properties), to_stdout())
        for path in written:
            print(path)
    next_step(" ".join(["posx train --scheme", scheme, *map(shlex.quote, overrides or [])]))
