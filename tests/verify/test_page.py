"""Tests of ``posx.verify.page``."""

from __future__ import annotations

from fixtures.models import posx


def test_the_table() -> None:
    result = posx("verify", "cope")
    assert "Checks against papers and reference code" in result.stdout
    assert "8 passed, 0 failed, 0 skipped; torch 2" in result.stdout
    assert "x-transformers CoPE" in result.stdout
    assert "Next: posx schemes" in result.stderr
