"""Tests of ``posx.analysis.properties``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures.models import ABSOLUTE, SCHEMES, gap, posx
from fixtures.shown_schemes import (
    SMALL,
    lines,
    maps,
    measured,
    subject_of,
    there,  # noqa: F401
)
from posx.analysis.panels.scheme import decay_of, panels
from posx.analysis.probe import parts
from posx.analysis.properties import along_diagonals, make_subject, reach, weight_by_distance
from posx.config.catalog import Catalog
from posx.models.build import compose_run
from posx.models.decoder import Decoder, initialise
from posx.schemes.base import Scheme


def test_xpos_changes_norms_by_its_formula() -> None:
    """Most for pair 0: ζ_0 = 0.4 / 1.4, at both ends, 31.5 tokens from the middle."""
    found = measured("xpos")
    assert found.norms == pytest.approx((0.4 / 1.4) ** (-31.5 / 512) - 1, rel=1e-4)
    assert found.distance_alone is not None
    assert found.distance_alone < 1e-4
    kinds = {panel.kind for panel in panels(subject_of("xpos"))}
    assert "scale" in kinds
    assert "bound" not in kinds


def test_rope_preserves_norms_and_shifts_by_a_rotation() -> None:
    found = measured("rope")
    assert found.norms is not None
    assert found.shift is not None
    assert 0 < found.norms < 1e-6
    assert found.shift < 1e-5
    assert found.reach is None
    broken = measured("ssmax")
    assert broken.shift is not None
    assert broken.shift > 0.1
    assert broken.norms == pytest.approx(1.0)  # ln 1 = 0: the first query is nothing


def test_sinusoids_shift_by_a_rotation_and_learned_vectors_do_not() -> None:
    sinusoidal, learned = measured("sinusoidal").shift, measured("learned").shift
    assert sinusoidal is not None
    assert learned is not None
    assert sinusoidal < 1e-5
    assert learned > 0.1


def test_dependence_on_distance_only_is_detected() -> None:
    assert measured("alibi").distance_alone == 0
    assert measured("nope").distance_alone == 0
    for name in set(SCHEMES) - {"linear-rope"}:
        found = measured(name).distance_alone
        assert found is not None
        assert found > 0.01 if name in (*ABSOLUTE, "ssmax") else found < 1e-4, name


def test_along_diagonals_of_numbers() -> None:
    nan = float("nan")
    logits = torch.tensor([[[1.0, nan, nan], [4.0, 1.0, nan], [9.0, 6.0, 1.0]]])
    spread = float(np.std([1, 4, 1, 9, 6, 1], ddof=1))
    assert along_diagonals(logits) == pytest.approx(2 / spread)
    assert along_diagonals(torch.where(logits.isnan(), nan, 5.0)) == 0


def test_reach_by_hand() -> None:
    assert reach(torch.tensor([0.6, 0.3, 0.06, 0.04])) == 2
    assert reach(torch.tensor([0.96, 0.04])) == 0
    assert reach(torch.full((128,), 1 / 128)) == 121


def test_weights_of_linear_attention() -> None:
    """φ(0) = 1 in all dimensions: the decay, over the number of keys."""
    one = subject_of("linear-rope")
    exact = decay_of(one.scheme.frequencies(), 8, 64) / 64  # type: ignore[operator]
    found = weight_by_distance(one, parts(one.scheme)[0])
    assert found is not None
    assert gap(found[0], exact.float()) < 1e-6


OWN = '''
from dataclasses import dataclass

import torch
from posx.schemes.base import Scheme


@dataclass
class MirrorConfig:
    strength: float = 1.0


class Mirror(Scheme):
    """Signs change with each position, and token vectors fade."""

    Config = MirrorConfig
    formula = "q, k · (−1)^p; costs $1, x / (1 + p)"

    def embed(self, tokens, positions):
        return tokens / (1 + self.config.strength * positions[:, None])

    def prepare(self, positions, extension):
        return (1 - 2 * (positions % 2))[:, None].float()

    def rotate(self, q, k, site):
        return q * site.shared[site.q_start:], k * site.shared

    def bias(self, site):
        return lambda b, h, i, j: -0.1 * (h + 1) * site.distance(b, i, j)
'''


def test_a_custom_scheme_is_shown(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (there / "mirrors_of_mine.py").write_text(OWN)
    (there / "own" / "scheme").mkdir(parents=True)
    (there / "own" / "scheme" / "mirror.yaml").write_text("_target_: mirrors_of_mine.Mirror\n")
    monkeypatch.syspath_prepend(str(there))
    output = json.loads(posx("show", "mirror", "--config-dir", "own", "--trust", "--json", *SMALL).stdout)
    (part,) = output["parts"]
    assert part["kind"] == "Mirror"
    assert part["norms"] == 0
    assert part["shift"] > 0.1  # of the embedding
    # The least d with r^(d+1) < 0.05 + 0.95 r^64, r = e^(−0.1 h): 7.49 and 29.6 for h = 4 and 1.
    assert part["reach"] == [7, 29]
    assert (there / "mirror.png").stat().st_size > 10_000
    mine = Catalog(there / "own", trust=True)
    one = make_subject(compose_run(["scheme=mirror", *SMALL], mine), "4x", mine)
    kinds = [panel.kind for panel in panels(one)]
    assert kinds == ["vectors", "similarity", "turned", "decay", "added", "weight"]
    assert maps(one, "vectors").values[""][3, 0] == pytest.approx(1 / 4)
    assert maps(one, "turned").values[""][:3, 0].tolist() == [1, -1, 1]
    assert lines(one, "decay").values["every head"][:4].tolist() == [1, -1, 1, -1]


def test_overrides_apply_to_the_scheme_and_the_model() -> None:
    one = subject_of("rope", "scheme.base=50", "model.head_dim=4", "train.seed=5", length="20")
    assert maps(one, "angles").values[""][1].tolist() == pytest.approx([1, 50**-0.5])
    assert (one.length, one.seed) == (20, 5)
    tables = [subject_of("learned", f"train.seed={seed}").scheme.table for seed in (0, 0, 1)]
    assert torch.equal(tables[0], tables[1])  # type: ignore[arg-type]
    assert not torch.equal(tables[0], tables[2])  # type: ignore[arg-type]


def test_the_values_shown_are_those_at_the_start_of_training() -> None:
    config = compose_run(["scheme=learned", *SMALL])
    one = make_subject(config, "1x")
    other = subject_of("learned").scheme
    assert isinstance(other, Scheme)
    model = Decoder(config.model, other, 61)
    initialise(model, 0)
    assert torch.equal(one.scheme.table, model.scheme.table)  # type: ignore[arg-type]
