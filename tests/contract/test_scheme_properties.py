"""Laws that cross packages: scheme properties."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.models import SCHEMES
from posx.config.catalog import PACKAGED
from posx.verify.oracles.laws import PROPERTIES, Property

NOBODY: Any = PACKAGED


# Of whom properties say nothing: no closure for FlexAttention to call, no far keys where a table ends.
WITHOUT = {
    "kernel": {"cope", "dape", "linear-rope", "stick-breaking"},
    "far": {"learned", "learned-concat"},
}


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("one", PROPERTIES, ids=lambda one: one.difference.__name__)
def test_what_every_scheme_keeps_to(one: Property, name: str) -> None:
    found = one.difference(name, NOBODY)
    assert (found is None) == (name in WITHOUT.get(one.difference.__name__, ()))
    assert found is None or found <= one.tolerance
