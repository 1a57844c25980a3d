"""Tests of the settings of all schemes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from fixtures.models import CONTEXT, make_model, make_scheme, random_tokens
from fixtures.scheme_formulas import scheme_of
from posx.config.schema import ModelConfig
from posx.errors import PosxError

BAD_SETTINGS = [
    ("rope", {"head_dim": 7}, {}, r"rotates pairs.*head of 7 .*not an even number"),
    ("rope", {"head_dim": 1}, {}, "not an even number"),
    ("rope", {}, {"fraction": 0.3}, r"scheme.fraction=0.3 of a head of 16 .*4.8"),
    ("rope", {}, {"fraction": 0.0}, "must be above 0"),
    ("rope", {}, {"fraction": 1.5}, "must be above 0"),
    ("rope", {}, {"base": 1.0}, "must be above 1"),
    ("partial-rope", {"head_dim": 4}, {}, "not an even number"),
    ("sinusoidal", {}, {"base": 0.5}, "must be above 1"),
    ("sinusoidal", {}, {"combine": "sum"}, "Use scheme.combine=add or concat"),
    ("sinusoidal", {}, {"width": 8}, "requires scheme.combine=concat"),
    ("learned-concat", {}, {"width": 48}, "Use a width from 1 to 47"),
    ("learned-concat", {}, {"width": 0}, "does not fit"),
    ("t5", {}, {"buckets": 1}, "must be at least 2"),
    ("t5", {}, {"buckets": 32}, r"none is left below max_distance=16"),
    ("t5", {}, {"buckets": 32, "max_distance": 16}, r"below 32, or a larger scheme.max_distance"),
]


@pytest.mark.parametrize("name, shape, own, message", BAD_SETTINGS)
def test_settings_that_cannot_work_are_refused(
    name: str, shape: dict[str, int], own: dict[str, Any], message: str
) -> None:
    """The message says what to do."""
    with pytest.raises(PosxError, match=message) as raised:
        make_scheme(name, ModelConfig(d_model=48, n_heads=3, **shape), **own)
    assert raised.value.hint
    assert raised.value.code == 2


def test_limits_themselves_are_fine() -> None:
    """One step inside each limit above; the smallest settings give finite outputs."""
    for name, own in [
        ("rope", {"fraction": 0.125}),
        ("learned-concat", {"width": 47}),
        ("sinusoidal-concat", {"width": 1}),
        ("t5", {"buckets": 2}),
        ("t5", {"buckets": 31}),
    ]:
        model = make_model(name, **own)
        assert bool(model(random_tokens(CONTEXT)).isfinite().all()), name


REFUSED = [
    ("kerple-log", {"kernel": "x"}, "log or power"),
    ("sandwich", {"width": 3}, "must be even"),
    ("sandwich", {"base": 1.0}, "must be above 1"),
    ("fire", {"hidden": 0}, "must be at least 1"),
    ("fire", {"threshold": -1.0}, "must be above 0"),
    ("fire", {"c": 0.0}, "must be above 0"),
    ("p-rope", {"kept": 0.0}, "leaves none"),
    ("p-rope", {"kept": 1.5}, "above 1"),
    ("forgetting", {"initial": math.nan}, "must be finite"),
    ("xpos", {"scale_base": 0.0}, "must be above 0.115"),
    ("xpos", {"scale_base": 0.115}, "overflow float32 at 16 tokens"),
    ("xpos", {"base": 1.0}, "must be above 1"),
]


@pytest.mark.parametrize(("name", "settings", "expected_message"), REFUSED)
def test_invalid_settings_are_refused(name: str, settings: dict[str, Any], expected_message: str) -> None:
    good = scheme_of(name, 2)
    with pytest.raises(PosxError, match=expected_message) as error:
        type(good).check(dataclasses.replace(good.config, **settings), good.shape)
    assert error.value.hint
