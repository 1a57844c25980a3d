"""Tests of ``posx.cli.verify``."""

from __future__ import annotations

from pathlib import Path

from fixtures.models import posx
from fixtures.verified import own  # noqa: F401 - a fixture


def test_bad_input(own: Path) -> None:
    assert "Did you mean rope or rerope?" in posx("verify", "ropr", code=2).stderr
    assert "Add --trust" in posx("verify", "peek", "--config-dir", own, code=2).stderr
    assert "is not a directory" in posx("verify", "--config-dir", "nowhere", code=2).stderr
