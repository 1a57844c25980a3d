"""Tests of ``posx.analysis.properties_page``."""

from __future__ import annotations

import json
from pathlib import Path

from fixtures.models import posx
from fixtures.shown_schemes import (
    SMALL,
    maps,
    subject_of,
    there,  # noqa: F401
)


def test_learned_positions_are_shown_up_to_their_end(there: Path) -> None:
    one = subject_of("learned")
    assert maps(one, "vectors").values[""].shape == (16, 32)
    shown = posx("show", "learned", *SMALL)
    assert "The scheme has only 16 positions; 64 were requested." in shown.stdout
    assert "initial values (seed 0)" in shown.stdout
    assert json.loads(posx("show", "learned", "--json", *SMALL).stdout)["last_position"] == 15
