"""Tests of ``posx.analysis.permutation``."""

from __future__ import annotations

import json
import math

import pytest
import torch

from fixtures.models import SCHEMES, posx
from posx.analysis.permutation import SENTENCE, SHAPE, outputs, permutation, permutations
from posx.config.catalog import PACKAGED
from posx.schemes.alibi import Alibi, AlibiConfig
from posx.schemes.nope import Nope, NopeConfig

BY_SUMS = {"cable", "cope", "forgetting", "linear-rope", "ssmax", "stick-breaking"}


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, float | None]]:
    printed = posx("explain", "permutation", "--json").stdout
    return {row["name"]: row for row in json.loads(printed)}


def test_without_mask_and_positions_both_sentences_give_the_same_set(rows: dict[str, dict[str, float | None]]) -> None:
    assert rows["nope"]["unmasked"] < 1e-6
    assert list(rows) == ["nope", *sorted(set(SCHEMES) - {"nope"})]
    assert {name for name, row in rows.items() if row["unmasked"] is None} == BY_SUMS
    for name, row in rows.items():
        assert row["masked"] > 0.1, name
        if name != "nope" and name not in BY_SUMS:
            assert row["unmasked"] > 1e-3, name


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["nope", "alibi"])
def test_the_layer_equals_attention_in_loops(kind: str, masked: bool) -> None:
    """Loops in float64; float32 sums of 64 products of size 1 are accurate to 1e-5."""
    scheme = Nope(NopeConfig(), SHAPE) if kind == "nope" else Alibi(AlibiConfig(), SHAPE)
    draw = torch.Generator().manual_seed(2)
    vectors, weights = torch.randn(3, 64, generator=draw), torch.randn(3, 64, 64, generator=draw) / 8
    q, k, v = ((vectors.double() @ w.double()).view(3, 4, 16) for w in weights)
    expected = torch.zeros(3, 4, 16, dtype=torch.float64)
    for h in range(4):
        for i in range(3):
            keys = range(i + 1) if masked else range(3)
            slope = 2.0 ** (-2 * (h + 1)) if kind == "alibi" else 0.0
            logits = [float(q[i, h] @ k[j, h]) / 4 - slope * (i - j) for j in keys]
            total = sum(map(math.exp, logits))
            for j, logit in zip(keys, logits, strict=True):
                expected[i, h] += math.exp(logit) / total * v[j, h]
    found = outputs(scheme, vectors, weights, masked)
    assert float((found.double() - expected.flatten(1)).abs().max()) < 1e-5


def test_the_same_seed_gives_the_same_result() -> None:
    one, other = (permutation(Alibi(AlibiConfig(), SHAPE), "alibi") for _ in range(2))
    assert one == other
    assert one in permutations(["nope", "alibi"], PACKAGED)


def test_the_table_in_words() -> None:
    shown = posx("explain", "permutation", "--scheme", "nope", "--scheme", "rope", "--scheme", "cope").stdout
    assert " ".join(SENTENCE) in shown
    lines = {line.split()[1]: line for line in shown.splitlines() if line.startswith("│")}
    assert list(lines) == ["nope", "rope", "cope"]
    assert "the same set" in lines["nope"]
    assert "the same set" not in lines["rope"]
    assert "–" in lines["cope"]
