"""Tests of ``posx.analysis.panels.extension``."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from fixtures.shown_extensions import subject_of
from posx.analysis.panels.drawing import picture
from posx.analysis.panels.panel import Lines, Map
from posx.analysis.panels.scheme import decay_of, panels
from posx.analysis.properties import Subject, measure

L, N = 16, 64


THETA = [10000 ** (-k / 4) for k in range(4)]


def panel(one: Subject, kind: str) -> Lines | Map:
    (found,) = [panel for panel in panels(one) if panel.kind == kind]
    return found


def kinds(one: Subject) -> list[str]:
    return [panel.kind for panel in panels(one)]


def ntk(s: float) -> list[float]:
    return [theta * s ** (-k / 3) for k, theta in enumerate(THETA)]


@pytest.mark.parametrize(("extension", "theta"), [("pi", [t / 4 for t in THETA]), ("ntk", ntk(4)), ("window", THETA)])
def test_wavelengths_and_pairs_beyond_their_trained_angles(extension: str, theta: list[float]) -> None:
    shown = panel(subject_of("rope", extension), "wavelength")
    assert isinstance(shown, Lines)
    assert shown.values["none"] == pytest.approx([2 * math.pi / t for t in THETA], rel=1e-5)
    assert shown.values[extension] == pytest.approx([2 * math.pi / t for t in theta], rel=1e-5)
    slow = [t * L < 2 * math.pi for t in THETA]
    reach = L - 1 if extension == "window" else N - 1
    assert shown.marked["none"].tolist() == slow == [False, True, True, True]  # 2π > 16 θ from θ = 0.1 on
    past = [s and own * reach >= t * L * (1 - 1e-6) for s, own, t in zip(slow, theta, THETA, strict=True)]
    assert shown.marked[extension].tolist() == past
    assert f"{sum(past)} with {extension}" in shown.caption


def test_angles_before_and_after() -> None:
    shown = panel(subject_of("rope", "ntk"), "angles")
    assert isinstance(shown, Map)
    assert list(shown.values) == ["none", "ntk"]
    for name, theta in (("none", THETA), ("ntk", ntk(4))):
        for p in (0, 1, 17, 63):
            apart = shown.values[name][p] - np.array([p * own for own in theta])
            assert np.abs((apart + math.pi) % (2 * math.pi) - math.pi).max() < 1e-4
    assert list(panel(subject_of("rope", "window"), "angles").values) == [""]


def test_decay_before_and_after() -> None:
    shown = panel(subject_of("rope", "pi"), "decay")
    for name, s in (("none", 1), ("pi", 4)):
        exact = decay_of(torch.tensor(THETA) / s, 8, N)
        assert np.abs(shown.values[name] - exact.numpy()).max() < 1e-4
    hidden = panel(subject_of("rope", "window"), "decay").values["window"]
    assert np.isnan(hidden).tolist() == [d >= L for d in range(N)]


def self_extend(i: int, j: int) -> float:
    """w = 4 and G = 4."""
    return i - j if i - j < 4 else i // 4 - j // 4 + 4 - 1


def dual_chunk(i: int, j: int) -> float:
    """s = 12."""
    chunks = i // 12 - j // 12
    return i - j if chunks == 0 else (min(12 + i % 12, 15) if chunks == 1 else 15) - j % 12


def sinks(i: int, j: int) -> float:
    """n = 4 and w = 12."""
    return math.nan if j >= 4 and i - j >= 12 else i - j if i - j < 12 else min(i, 15) - j


DISTANCES = {
    "self-extend(w=4,G=4)": self_extend,
    "rerope": lambda i, j: min(i - j, 8),
    "leaky-rerope(w=8,k=8)": lambda i, j: i - j if i - j < 8 else 8 + (i - j - 8) / 8,
    "dual-chunk": dual_chunk,
    "sinks": sinks,
    "lm-infinite(n=2)": lambda i, j: float("nan") if j >= 2 and i - j >= 16 else min(i - j, 16),
}


@pytest.mark.parametrize("extension", DISTANCES)
@pytest.mark.parametrize("name", ["rope", "kerple-log"])
def test_effective_distances(name: str, extension: str) -> None:
    one = subject_of(name, extension)
    exact = np.array([[DISTANCES[extension](i, j) if j <= i else math.nan for j in range(N)] for i in range(N)])
    assert np.abs(panel(one, "apart").values[""] - exact)[~np.isnan(exact)].max() < 1e-5
    assert np.isnan(panel(one, "apart").values[""]).tolist() == np.isnan(exact).tolist()
    line = panel(one, "distance")
    (label,) = [name for name in line.values if name != "none"]
    assert line.values["none"].tolist() == list(range(N))
    assert line.values[label] == pytest.approx(exact[N - 1][::-1], abs=1e-5, nan_ok=True)


def test_each_pair_of_a_rotation_has_its_own_distance() -> None:
    shown = panel(subject_of("rope", "ntk"), "distance").values
    assert list(shown) == ["none", "pair 0", "pair 1", "pair 2", "pair 3"]
    for k in range(4):
        assert shown[f"pair {k}"][-1] == pytest.approx(63 * 4 ** (-k / 3), rel=1e-5)
    assert list(panel(subject_of("rope", "pi"), "distance").values) == ["none", "every pair, pi"]
    fewer = panel(subject_of("rope", "by-parts", "model.d_model=128"), "distance").values
    assert "pairs 5–15" not in fewer
    assert any(name.startswith("pairs ") for name in fewer)
    stretched = panel(subject_of("learned", "interpolate"), "distance").values["every key, interpolate"]
    assert stretched == pytest.approx(np.arange(N) * 15 / 63, abs=1e-5)


def test_masks_and_temperatures() -> None:
    one = subject_of("alibi", "log-n+window(w=10)")
    assert kinds(one) == ["mask", "temperature", "added", "weight"]
    seen = panel(one, "mask").values[""]
    for i in range(N):
        for j in range(N):
            assert math.isnan(seen[i, j]) if j > i else seen[i, j] == (i - j < 10)
    factor = panel(one, "temperature").values["extended"]
    assert factor == pytest.approx([max(1, math.log(i + 1) / math.log(L)) for i in range(N)], rel=1e-5)
    weights = panel(one, "weight").values["head 4"]
    exact = np.exp(-np.arange(10) * 2.0**-8)
    assert weights[:10] == pytest.approx(exact / exact.sum(), rel=1e-5)
    assert (weights[10:] == 0).all()
    assert measure(one)[0].reach == (8, 9)  # the steepest: the least d with r^(d+1) < 0.05 + 0.95 r^10, r = e^-0.25


def test_slopes_and_sharpness_change_the_bias() -> None:
    added = panel(subject_of("alibi", "alibi-scale+temperature"), "added").values["head 1"]
    assert added[N - 1, 0] == pytest.approx(-0.25 / 4 * 63 * (1 + 0.1 * math.log(4)), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "extension", "wanted"),
    [
        ("rope", "yarn", {"wavelength", "distance", "angles", "decay"}),
        ("rope", "window", {"wavelength", "mask", "angles", "decay"}),
        ("t5", "rerope+window", {"distance", "apart", "mask", "added", "weight"}),
        ("nope", "log-n", {"temperature", "weight"}),
        ("linear-rope", "pi", {"wavelength", "distance", "angles", "weight"}),
        ("layers", "ntk", {"wavelength", "distance", "angles", "decay", "bound", "weight"}),
        ("sinusoidal", "interpolate", {"distance", "vectors", "similarity"}),
        ("forgetting", "sinks", {"mask", "added", "weight"}),
    ],
)
def test_panels_that_apply_are_drawn(name: str, extension: str, wanted: set[str]) -> None:
    one = subject_of(name, extension)
    assert wanted <= set(kinds(one))
    assert not {"mask", "temperature", "wavelength", "apart"} & set(kinds(one)) - wanted
    figure = picture(one)
    figure.draw_without_rendering()
    plt.close(figure)
