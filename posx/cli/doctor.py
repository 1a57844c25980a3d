"""posx doctor."""

from __future__ import annotations

from posx.cli.options import Json, command, next_step


@command("doctor")
def doctor(json: Json = False) -> None:
    """Say what this machine has, and what posx will choose."""
    from posx.cli.inspection import show_machine

    show_machine(json)
    next_step("posx sweep quick")
