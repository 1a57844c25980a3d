"""Tests of ``posx.schemes.sandwich``."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.scheme_formulas import assert_written, everywhere, scheme_of
from posx.verify.oracles import papers as written


@everywhere
@pytest.mark.parametrize("settings", [{"width": 128, "base": 10000.0}, {"width": 2}, {"width": 6, "base": 50.0}])
def test_sandwich_matches_the_paper(heads: int, length: int, places: Any, settings: dict[str, Any]) -> None:
    """The largest value is the number of cosines; most angles are far below 61, where float32 is exact to 4e-6."""
    scheme = scheme_of("sandwich", heads, **settings)
    width, base = scheme.config.width, scheme.config.base
    assert_written(scheme, places(length), lambda h, i, j: written.sandwich(h, heads, i - j, width, base))
