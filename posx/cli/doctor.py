"""posx doctor."""

from __future__ import annotations

from posx.cli.options import Json, command, emit, next_step


@command("doctor")
def doctor(json: Json = False) -> None:
    """Describe this machine and what posx will choose on it."""
    from posx import api

    emit(api.machine(), json)
    next_step("posx sweep quick")
