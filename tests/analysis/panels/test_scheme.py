"""Tests of ``posx.analysis.panels.scheme``."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fixtures.shown_schemes import lines, maps, measured, subject_of
from posx.analysis.panels.scheme import bound, decay, decay_of, similarity


def test_decay_and_bound_of_two_pairs_by_hand() -> None:
    """D = 4, b = 10000: θ = 1, 0.01. At d = 1: (cos 1 + cos 0.01) / 2, and (|e^i| + |e^i + e^0.01i|) / 2."""
    one = subject_of("rope", "model.n_heads=8")
    theta = torch.tensor([1.0, 0.01])
    by_hand = (math.cos(1) + math.cos(0.01)) / 2
    assert float(decay_of(theta, 4, 64)[1]) == pytest.approx(by_hand, abs=1e-9)
    assert float(decay(one.scheme, one.positions)[0][0, 1]) == pytest.approx(by_hand, abs=1e-5)
    assert lines(one, "decay").values["every head"][1] == pytest.approx(by_hand, abs=1e-5)
    edge = (1 + math.hypot(math.cos(1) + math.cos(0.01), math.sin(1) + math.sin(0.01))) / 2
    assert lines(one, "bound").values[""][1] == pytest.approx(edge, abs=1e-6)
    assert lines(one, "bound").values[""][0] == pytest.approx((1 + 2) / 2)


@pytest.mark.parametrize("settings", [(), ("scheme.base=50",), ("scheme.fraction=0.5",)])
def test_the_bound_holds_for_logits_whose_pairs_differ_by_at_most_one(settings: tuple[str, ...]) -> None:
    """|Σ h_k e^{idθ_k}| ≤ max |h_{k+1} − h_k| Σ_j |S_j|, for many h, not only for the one drawn."""
    one = subject_of("rope", *settings, "model.d_model=128")
    shown = lines(one, "bound").values[""]
    assert (shown >= lines(one, "decay").values["every head"] - 1e-9).all()
    theta = torch.zeros(16, dtype=torch.float64)
    own = one.scheme.frequencies()  # type: ignore[operator]
    theta[: len(own)] = own
    turns = torch.exp(1j * torch.arange(64)[:, None] * theta)
    draw = torch.Generator().manual_seed(1)
    for _ in range(50):
        h = torch.randn(17, generator=draw, dtype=torch.float64)
        h[16] = 0
        size = (turns * h[:16]).sum(-1).abs() / h.diff().abs().max() * 2 / 32
        assert (size.numpy() <= bound(theta, 32, 64).numpy() + 1e-9).all()


def test_angles_are_positions_times_frequencies() -> None:
    angles = maps(subject_of("rope"), "angles").values[""]
    assert angles.shape == (64, 4)
    for p in (0, 1, 17, 63):
        for k in range(4):
            apart = angles[p, k] - p * 10000 ** (-k / 4)
            assert abs((apart + math.pi) % (2 * math.pi) - math.pi) < 1e-5
    assert (maps(subject_of("p-rope", "scheme.kept=0.5"), "angles").values[""][:, 2:] == 0).all()


def test_vectors_and_their_similarity_by_hand() -> None:
    one = subject_of("sinusoidal-concat")
    vectors = maps(one, "vectors").values[""]
    assert vectors.shape == (64, 8)
    for p in (0, 5, 63):
        for k in range(4):
            assert vectors[p, 2 * k] == pytest.approx(math.sin(p * 10000 ** (-k / 4)), abs=1e-5)
            assert vectors[p, 2 * k + 1] == pytest.approx(math.cos(p * 10000 ** (-k / 4)), abs=1e-5)
    for d in (0, 1, 40):
        cosine = sum(math.cos(d * 10000 ** (-k / 4)) for k in range(4)) / 4
        assert lines(one, "similarity").values[""][d] == pytest.approx(cosine, abs=1e-5)
    assert float(similarity(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))[1]) == 0


@pytest.mark.parametrize("heads", [4, 3])
def test_alibi_weights_by_hand(heads: int) -> None:
    one = subject_of("alibi", f"model.n_heads={heads}", "model.head_dim=8")
    slopes = [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8] if heads == 4 else [2.0**-4, 2.0**-8, 2.0**-2]
    shown = lines(one, "weight").values
    for head, slope in enumerate(slopes):
        exact = np.exp(-slope * np.arange(64, dtype=np.float64))
        exact /= exact.sum()
        assert np.abs(shown[f"head {head + 1}"] - exact).max() < 1e-6
    added = maps(one, "added")
    i, j = np.tril_indices(64)
    for head, slope in enumerate(slopes):
        values = added.values[f"head {head + 1}"]
        assert (values[i, j] == -slope * (i - j)).all()
        assert np.isnan(values[j[i > j], i[i > j]]).all()


def test_weights_with_known_values() -> None:
    """nope: 64 equal weights, of which the nearest 61 are 95%; stick-breaking: halves."""
    nope = subject_of("nope")
    assert np.abs(lines(nope, "weight").values["every head"] - 1 / 64).max() < 1e-8
    assert measured("nope").reach == (60, 60)
    sticks = lines(subject_of("stick-breaking"), "weight").values["every head"]
    assert sticks[0] == 0
    assert np.abs(sticks[1:40] - 0.5 ** np.arange(1, 40)).max() < 1e-6


def test_at_most_four_maps_and_eight_lines() -> None:
    one = subject_of("alibi", "model.n_heads=12", "model.d_model=96")
    assert list(maps(one, "added").values) == ["head 1", "head 5", "head 8", "head 12"]
    names = list(lines(one, "weight").values)
    assert (len(names), names[0], names[-1]) == (8, "head 1", "head 12")
