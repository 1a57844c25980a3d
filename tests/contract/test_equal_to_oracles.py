"""Laws that cross packages: equal to oracles."""

from __future__ import annotations

import pytest

from fixtures.models import SCHEMES, extensions
from posx.verify.oracles.extension_comparisons import EXTENDED
from posx.verify.oracles.layer import Comparison
from posx.verify.oracles.scheme_comparisons import COMPARISONS


@pytest.mark.parametrize("one", [*COMPARISONS, *EXTENDED], ids=lambda one: f"{one.name}: {one.oracle}")
def test_schemes_and_extensions_are_their_oracles(one: Comparison) -> None:
    assert one.difference() <= one.tolerance


def test_every_scheme_and_extension_has_an_oracle() -> None:
    assert {one.name for one in COMPARISONS} == set(SCHEMES)
    assert {one.name for one in EXTENDED} == set(extensions())
