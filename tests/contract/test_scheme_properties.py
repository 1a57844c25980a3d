"""Every scheme has the properties that posx verify checks."""

from __future__ import annotations

import pytest

from fixtures.models import SCHEMES
from posx.config.catalog import PACKAGED
from posx.verify.oracles.laws import PROPERTIES, Property

# Properties that do not apply: no closure for FlexAttention, and no far keys past a table.
NOT_APPLICABLE = {
    "kernel": {"cope", "dape", "linear-rope", "stick-breaking"},
    "far": {"learned", "learned-concat"},
}


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("checked", PROPERTIES, ids=lambda checked: checked.difference.__name__)
def test_every_scheme_has_the_property(checked: Property, name: str) -> None:
    difference = checked.difference(name, PACKAGED)
    assert (difference is None) == (name in NOT_APPLICABLE.get(checked.difference.__name__, ()))
    assert difference is None or difference <= checked.tolerance
