"""Tests of inner schemes in ``posx.config.compose``."""

from __future__ import annotations

import pytest

from posx.errors import PosxError
from posx.models.build import compose_run


def test_the_config_contains_all_settings_of_an_inner_scheme() -> None:
    config = compose_run(["scheme=randomized", "scheme.inner=rope"])
    rope = {"name": "rope", "_target_": "posx.schemes.rope.Rope", "base": 10000.0, "fraction": 1.0}
    assert config.scheme["inner"] == rope
    config = compose_run(["scheme=ssmax", "scheme.inner={name: rope, base: 500}"])
    assert config.scheme["inner"] == {**rope, "base": 500.0}
    config = compose_run(["scheme=layers", "scheme.layers=[alibi,nope]"])
    assert [layer["name"] for layer in config.scheme["layers"]] == ["alibi", "nope"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scheme=ssmax", "scheme.inner=ropr"], "ropr"),
        (["scheme=ssmax", "scheme.inner=3"], "must be a scheme"),
        (["scheme=ssmax", "scheme.inner={name: rope, bse: 500}"], "scheme.inner.bse"),
        (["scheme=ssmax", "scheme.inner={name: rope, base: 0}"], "scheme.base"),
        (["scheme=layers", "scheme.layers=[rope,nop]"], "nop"),
        (["scheme=layers", "scheme.layers=rope"], "takes a list"),
        (["scheme=randomized", "scheme.longest=8"], "shorter than the context"),
        (["scheme=randomized", "scheme.evaluation=any"], r"Use sample \(as in the paper\), spread or first"),
        (["scheme=shape", "scheme.shift=-1"], "must be at least 0"),
    ],
)
def test_invalid_inner_schemes_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(PosxError, match=message) as error:
        compose_run(overrides)
    assert error.value.hint
