"""Every scheme and extension equals its oracles: reference code and formulas of papers."""

from __future__ import annotations

import pytest

from fixtures.models import SCHEMES, extensions
from posx.verify.oracles.extension_comparisons import EXTENDED
from posx.verify.oracles.layer import Comparison
from posx.verify.oracles.scheme_comparisons import COMPARISONS


@pytest.mark.parametrize("comparison", [*COMPARISONS, *EXTENDED], ids=lambda c: f"{c.name}: {c.oracle}")
def test_schemes_and_extensions_equal_their_oracles(comparison: Comparison) -> None:
    assert comparison.difference() <= comparison.tolerance


def test_every_scheme_and_extension_has_an_oracle() -> None:
    assert {comparison.name for comparison in COMPARISONS} == set(SCHEMES)
    assert {comparison.name for comparison in EXTENDED} == set(extensions())
