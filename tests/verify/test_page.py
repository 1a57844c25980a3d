"""Tests of ``posx.verify.page``."""

from __future__ import annotations

from fixtures.models import posx


def test_the_table() -> None:
    shown = posx("verify", "cope")
    assert "Schemes and extensions beside their oracles" in shown.stdout
    assert "8 within their tolerance, 0 off, 0 not run; torch 2" in shown.stdout
    assert "x-transformers CoPE" in shown.stdout
    assert "Next: posx schemes" in shown.stderr
