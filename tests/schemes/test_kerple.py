"""Tests of ``posx.schemes.kerple``."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from fixtures.models import make_model
from fixtures.scheme_formulas import assert_written, bias, drawn, everywhere, scheme_of, set_values
from posx.verify.oracles import papers as written

pytestmark = pytest.mark.every_processor

LIMITS = ([0.7, -3.0, 1.9, 0.001, 0.01, 1.0], [1.3, 0.4, -0.2, 2.7, 0.005, 2.0])


@everywhere
@pytest.mark.parametrize("values", [([], []), LIMITS], ids=["drawn", "limits"])
@pytest.mark.parametrize("kernel", ["log", "power"])
def test_kerple_matches_the_paper(heads: int, length: int, places: Any, values: Any, kernel: str) -> None:
    """The two kernels, and the limits of the released code: 0.01 at the least, a power of 2 at most."""
    scheme = drawn(scheme_of(f"kerple-{kernel}", heads), seed=heads)
    for parameter, value in zip((scheme.r1, scheme.r2), values, strict=True):
        set_values(parameter, value[:heads] or parameter.tolist())
    r1, r2 = scheme.r1.tolist(), scheme.r2.tolist()

    assert_written(scheme, places(length), lambda h, i, j: written.kerple(kernel, r1[h], r2[h], i - j))


@pytest.mark.parametrize(("r1", "r2"), [(0.7, 0.6), (-1.0, 0.6), (0.7, -1.0), (0.01, 0.01), (0.7, 3.0), (-2.0, 5.0)])
@pytest.mark.parametrize("kernel", ["log", "power"])
def test_the_gradient_passes_the_limits(kernel: str, r1: float, r2: float) -> None:
    """It is the gradient at the limit, not 0: derivatives by hand, for a weighted sum of 36 biases in float32."""
    scheme = scheme_of(f"kerple-{kernel}", 1)
    set_values(scheme.r1, [r1])
    set_values(scheme.r2, [r2])
    a, b = max(r1, 0.01), min(max(r2, 0.01), math.inf if kernel == "log" else 2.0)
    weights = torch.rand(9, 9, generator=torch.Generator().manual_seed(0))
    (bias(scheme, torch.arange(9))[0, 0] * weights).sum().backward()
    by_r1 = by_r2 = 0.0
    for i in range(9):
        for j in range(i):  # at a distance of 0 both derivatives are 0
            d, w = i - j, float(weights[i, j])
            by_r1 -= w * (math.log(1 + b * d) if kernel == "log" else d**b)
            by_r2 -= w * a * (d / (1 + b * d) if kernel == "log" else d**b * math.log(d))
    assert (scheme.r1.grad.item(), scheme.r2.grad.item()) == pytest.approx((by_r1, by_r2), rel=1e-5)


def test_initial_values_match_the_authors_code() -> None:
    """Uniform from 0 up to 2 and 1 (log), 1 and 2 (power); the largest of 300 numbers is within 5% of the upper end."""
    for name, ends in (("kerple-log", (2.0, 1.0)), ("kerple-power", (1.0, 2.0))):
        scheme = make_model(name, n_heads=300, d_model=600, n_layers=1, sharp=False).scheme
        for parameter, end in zip((scheme.r1.detach(), scheme.r2.detach()), ends, strict=True):
            assert 0 <= float(parameter.min()) < 0.05 * end
            assert 0.95 * end < float(parameter.max()) <= end
            assert float(parameter.mean()) == pytest.approx(end / 2, rel=0.15)
