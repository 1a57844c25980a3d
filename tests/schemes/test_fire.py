"""Tests of ``posx.schemes.fire``."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fixtures.models import CONTEXT, make_model, make_scheme
from fixtures.scheme_formulas import HEADS, assert_written, drawn, everywhere, scheme_of, set_values
from posx.config.schema import ModelConfig
from posx.extensions.base import NONE
from posx.schemes.base import Site
from posx.verify.oracles import papers as written

pytestmark = pytest.mark.every_processor


@everywhere
@pytest.mark.parametrize(("c", "multiple", "end"), [(0.1, 1, 16), (-0.3, -0.25, 16), (2.0, 3, 16), (0.1, 1, 9.5)])
def test_fire_matches_the_paper(heads: int, length: int, places: Any, c: float, multiple: Any, end: Any) -> None:
    """T is 16, 4, 48 or 9.5: queries are below, at and beyond it. Absolute values of c and T are used."""
    scheme = drawn(scheme_of("fire", heads, hidden=5, threshold=None if end == CONTEXT else end), seed=heads)
    scheme.c.data.fill_(c)
    scheme.multiple.data.fill_(multiple)
    first, inner, outer = (p.tolist() for p in (scheme.first.weight, scheme.first.bias, scheme.second.weight))
    assert_written(
        scheme, places(length), lambda h, i, j: written.fire(i, j, c, multiple * end, first, inner, outer[h])
    )


# Hidden weights and biases: random; then zero slopes; knees that coincide, at 0 and 1, far away, or on one side.
NETWORKS: list[tuple[list[float], list[float]] | None] = [
    None,
    ([0, 0, 0, 1], [0.5, -0.5, 0, -0.5]),
    ([1, 2, -1, -2], [-0.5, -1, 0.5, 1]),
    ([1, -1, 1, -1], [0, 0, -1, 1]),
    ([1e-20, -1e-20, 1e-30, 1e-12], [1, 1, -1, -1]),
    ([3, 0.1, 1e-20, 2], [9, 0.2, 1, 0.5]),
    ([1e-20, 1e-21, 1e-20, 1e-25], [1, 2, 3, 4]),
    ([1e-40, 50, -50, 49.9], [0.3, -25, 25, -25]),
]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("heads", HEADS)
def test_piecewise_linear_form_matches_the_network(heads: int, network: Any) -> None:
    """Without gradients f is interpolated between knees: compared with the network in float64 for 0 to 3 and 40.

    To 1e-6 of the sum over a head's units, plus some roundings of 50 · share if slopes are steep. With
    gradients it is the network itself.
    """
    scheme = drawn(scheme_of("fire", heads, hidden=4), seed=heads)
    if network is not None:
        set_values(scheme.first.weight, network[0])
        set_values(scheme.first.bias, network[1])
    shares = torch.cat([torch.linspace(0, 3, 400), torch.tensor([0.5, 1.0, 1 / 3, 40.0])])
    scheme.share = lambda distance, query: shares.repeat(2, 1)
    a, b, w = (p.detach().double() for p in (scheme.first.weight[:, 0], scheme.first.bias, scheme.second.weight))
    given = (a[:, None] * shares.double() + b[:, None]).clamp(min=0)
    expected = (w @ given)[:, None].expand(-1, 2, -1)
    positions = torch.arange(len(shares))
    site = Site(positions[-2:], positions, shared=scheme.prepare(positions, NONE))
    indices = torch.tensor(0)[None, None, None], torch.arange(heads)[:, None, None], torch.arange(2)[:, None]
    with_network = scheme.bias(site)(*indices, positions)
    assert with_network.requires_grad
    with torch.no_grad():
        with_lines = scheme.bias(site)(*indices, positions)
    bound = 1e-6 * (w.abs() @ (a.abs()[:, None] * shares.double() + b.abs()[:, None]))[:, None]
    for found in (with_network, with_lines):
        assert bool(((found.double() - expected).abs() <= bound + 1e-12).all())


def test_initial_values_of_fire() -> None:
    """Like torch's Linear, uniform in ±1/√(inputs), except for the hidden biases: from 0.1 to 1."""
    scheme = make_model("fire", sharp=False, hidden=200).scheme
    assert (scheme.c.item(), scheme.multiple.item()) == (pytest.approx(0.1), 1.0)
    assert scheme.threshold == CONTEXT
    assert make_scheme("fire", ModelConfig(), context=4096).threshold == 512
    first, second, outer = scheme.first, scheme.second, 200**-0.5
    for parameter, least, most in ((first.weight, -1, 1), (first.bias, 0.1, 1), (second.weight, -outer, outer)):
        found = parameter.detach() / most
        assert least / most <= found.min() < least / most + 0.1
        assert 0.9 < found.max() <= 1
