"""Schemes and extensions that users wrote for posx 0.3.0 still work, with its names of attributes and hooks."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import yaml

from fixtures.corpora import TINY, WORDS, write_jsonl
from fixtures.models import posx
from posx.config.catalog import Catalog
from posx.models.build import compose_run, scheme_of

MODULE = '''
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from posx.errors import PosxError
from posx.extensions.base import Extension
from posx.schemes.base import Scheme
from posx.schemes.distance import DistanceBias
from posx.schemes.wrapper import Wrapper


@dataclass
class Plain:
    slope: float = 0.5


class ByDistance(DistanceBias):
    Config = Plain
    formula = "logit - slope·√d"

    def addend(self, h, distance):
        return -self.config.slope * (h + 1) * torch.sqrt(distance.float())


class OwnBias(ByDistance):
    """Its bias depends on more than the distance, unlike that of its base class."""

    def bias(self, site):
        return lambda b, h, i, j: -0.1 * site.distance(b, i, j) - 0.01 * site.k_pos[j]


@dataclass
class Sometimes:
    values_too: bool = False


class OfContent(Scheme):
    Config = Sometimes
    bias_per_layer = True
    by_position = False
    accepts = frozenset()

    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.gain = nn.Parameter(torch.zeros(shape.n_layers, shape.n_heads))

    @property
    def has_values(self):
        return self.config.values_too

    def bias(self, site):
        own = self.gain[site.layer]
        size = site.x.square().mean(-1)
        return lambda b, h, i, j: own[h] * size[b, j]

    def values(self, weights, site):
        return torch.zeros(*weights.shape[:3], self.shape.head_dim)


@dataclass
class Around:
    inner: Any = "alibi"


class Sharper(Wrapper):
    Config = Around
    needs_logits = True
    per_layer = True
    bias_per_layer = True
    bias_is_by_distance = False
    accepts = property(lambda self: self.inner.accepts - {"distances"})

    def __init__(self, config, shape, inner):
        super().__init__(config, shape, inner)
        if not self.inner.has_bias or self.inner.needs_logits or not self.inner.hears_positions:
            raise PosxError("Sharper needs a bias.", "Try alibi.")

    def rescore(self, logits, site):
        return 1.5 * logits


class Narrower(Sharper):
    """Overrides a property of its base class."""

    accepts = property(lambda self: super(Narrower, self).accepts - {"slopes"})


@dataclass
class Nothing:
    pass


class SetInInit(Scheme):
    """Sets attributes on the instance, and extends what its base class accepts."""

    Config = Nothing
    accepts = Scheme.accepts | {"slopes"}

    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.bias_per_layer = True

    def bias(self, site):
        size = site.x.square().mean(-1)
        return lambda b, h, i, j: -0.01 * size[b, j]

    def facts(self, case):
        from posx.schemes.facts import by_hooks

        return by_hooks(self, case)


@dataclass
class Every:
    step: int = 2


class Strided(Extension):
    Config = Every
    changes = "mask"
    formula = "keys with (i - j) divisible by step"

    def mask(self, target):
        step = self.config.step
        return lambda b, h, i, j: (i - j) % step == 0
'''
CARDS = {
    "scheme/by-distance": {"_target_": "of_0_3_0.ByDistance", "slope": 0.25},
    "scheme/own-bias": {"_target_": "of_0_3_0.OwnBias"},
    "scheme/of-content": {"_target_": "of_0_3_0.OfContent"},
    "scheme/sharper": {"_target_": "of_0_3_0.Sharper"},
    "scheme/narrower": {"_target_": "of_0_3_0.Narrower"},
    "scheme/set-in-init": {"_target_": "of_0_3_0.SetInInit"},
    "extension/strided": {"_target_": "of_0_3_0.Strided"},
}


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    (tmp_path / "of_0_3_0.py").write_text(textwrap.dedent(MODULE), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, card in CARDS.items():
        path = tmp_path / "own" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(card), "utf-8")
    return Catalog(tmp_path / "own", trust=True)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["scheme=by-distance"], {"bias": "distance", "accepts": frozenset({"distances"}), "uses_positions": True}),
        (["scheme=own-bias"], {"bias": "index", "accepts": frozenset({"distances"})}),
        (["scheme=of-content"], {"bias": "layer", "by_position": False, "has_values": False, "per_layer": True}),
        (["scheme=of-content", "scheme.values_too=true"], {"has_values": True, "needs_logits": True}),
        (["scheme=narrower"], {"accepts": frozenset(), "needs_logits": True, "uses_positions": True}),
        (["scheme=set-in-init"], {"bias": "layer", "accepts": frozenset({"slopes"}), "per_layer": True}),
        (["scheme=sharper"], {"bias": "layer", "needs_logits": True, "accepts": frozenset({"slopes"})}),
    ],
)
def test_capabilities_follow_from_the_attributes_of_a_class(
    catalog: Catalog, overrides: list[str], expected: dict[str, object]
) -> None:
    capabilities = scheme_of(compose_run(overrides, catalog), catalog).capabilities
    assert {name: getattr(capabilities, name) for name in expected} == expected


@pytest.mark.parametrize("scheme", ["by-distance", "own-bias", "of-content", "sharper", "narrower", "set-in-init"])
def test_it_trains_and_is_evaluated(catalog: Catalog, scheme: str, tmp_path: Path, cache: Path) -> None:
    text = write_jsonl(tmp_path / "text.jsonl", [f"{n} " + " ".join(WORDS[n % 7 :] * 12) for n in range(30)])
    runs = ["--runs-dir", tmp_path / "runs", "--config-dir", catalog.config_dir, "--trust"]
    posx("train", f"scheme={scheme}", "data=text", f"data.path={text}", *TINY, "train.steps=2", "--name", "a", *runs)
    request = ["--length", "2x", "--extension", "none", "--extension", "strided(step=3)", "eval.target_context=32"]
    posx("eval", "a", *request, *runs, "eval.max_targets=64")
    result = posx("eval", "a", *request, "--runs-dir", tmp_path / "runs", code=2)
    assert "--trust" in result.stderr
