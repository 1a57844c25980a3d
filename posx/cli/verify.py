"""posx verify."""

from __future__ import annotations

from typing import Annotated

import typer

from posx.cli.options import ConfigDir, Json, Trust, command, display, next_step
from posx.config.catalog import Catalog


@command("verify")
def verify(
    schemes: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Schemes and extensions. [all]")] = None,
    json: Json = False,
    config_dir: ConfigDir = None,
    trust: Trust = False,
) -> None:
    """Hold schemes and extensions against their papers' formulas in float64, and against other people's code.

    posx verify rope alibi

    And every scheme against what all keep to: causality, blocks, gradients, far keys. Exit code 1 if anything is off.
    Comparisons with transformers and x-transformers want: pip install 'posx[verify]'.
    """
    catalog = Catalog(config_dir, trust)
    from posx.verify.page import as_json, page
    from posx.verify.run import failed
    from posx.verify.run import verify as run

    with display() as shown:
        begun = False

        def tell(done: int, total: int, note: str) -> None:
            nonlocal begun
            if not begun:
                shown.start("Verifying", total)
                begun = True
            shown.update(done, note)

        rows = run(schemes, catalog, tell)
    if json:
        print(as_json(rows))
    else:
        from posx.reporting.formats import show_page
        from posx.utils.console import to_stdout

        show_page(page(rows), to_stdout())
    if failed(rows):
        raise typer.Exit(1)
    next_step("posx schemes")
