"""Tests of ``posx.analysis.extrapolation``."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import pytest

from fixtures.case_pages import SHORT
from fixtures.cases import EXERCISE, explained, fact
from fixtures.corpora import TINY, sentence, write_jsonl
from fixtures.models import MASKABLE, SCHEMES, posx
from posx.models.classes import known_extensions


def test_a_length_beyond_an_extension_is_reported() -> None:
    found = explained("learned", "--extension", "window")
    assert set(found["refused"]) == {"none", "window"}
    far = explained("rope", "--extension", "self-extend(w=4)", case=("--train-length", "16", "--length", "1000"))
    assert "cannot keep the distances of 1000 tokens below 16" in far["refused"]["self-extend(w=4)"]
    assert all(row["extended"] is None for row in far["facts"])


def test_layers_with_different_schemes_are_listed_separately() -> None:
    what = [row["what"] for row in explained("layers")["facts"]]
    assert "layers 1–3: distances to keys" in what
    assert what[-2:] == ["keys of the last query", "entropy of uniform attention"]
    assert "layer 4: distances to keys" not in what


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_answers(name: str) -> None:
    for case, context, length in ((SHORT, 64, 100), (EXERCISE, 2048, 3000)):
        found = explained(name, case=case)
        assert (found["train_length"], found["length"]) == (context, length)
        assert found["facts"]
        assert found["outlook"].endswith(".") or name == "linear-rope"
        whats = [row["what"] for row in found["facts"]]
        assert len(whats) == len(set(whats))
        keys = [row["none"]["values"]["keys"] for row in found["facts"] if "keys of the last query" in row["what"]]
        assert set(keys) == {length}
        new = [row["none"]["values"]["new"] for row in found["facts"] if "distances to keys" in row["what"]]
        assert set(new) <= {length - context, 0}
        fitting = {one for some in found["extensions"].values() for one in some}
        assert fitting <= set(known_extensions())
        assert ("window" in fitting) == (name in MASKABLE)
        if "window" in fitting and not found["refused"]:
            windowed = explained(name, "--extension", "window", case=case)
            inside = [r["extended"]["values"] for r in windowed["facts"] if r.get("extended")]
            assert all(v["keys"] == context for v in inside if set(v) == {"keys"})


def test_the_simplest_extension_of_each_kind_is_suggested() -> None:
    names = ("ntk", "rerope", "log-n", "window")
    evaluate = shlex.split(explained("rope")["commands"][1])
    assert sorted(evaluate[5::2][1:5]) == sorted(names)
    assert len(explained("randomized", "scheme.longest=2500")["commands"]) == 1  # no extension leads back


OWN = """
from dataclasses import dataclass

from posx.schemes.base import Scheme


@dataclass
class RootConfig:
    slope: float = 0.5


class Root(Scheme):
    Config = RootConfig
    formula = "logit - slope * sqrt(d)"

    def bias(self, site):
        return lambda b, h, i, j: -self.config.slope * site.distance(b, i, j).float() ** 0.5
"""


def test_a_custom_scheme_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "roots_of_mine.py").write_text(OWN)
    (tmp_path / "own" / "scheme").mkdir(parents=True)
    (tmp_path / "own" / "scheme" / "root.yaml").write_text("_target_: roots_of_mine.Root\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = explained("root", "--config-dir", "own", "--trust", "scheme.slope=0.25")
    assert fact(found, "distances to keys")[1] == "0–2999: 952 are new"
    values = fact(found, "added to the farthest key's logit, by head")[2]["added"]
    assert values == pytest.approx([-0.25 * math.sqrt(2999)] * 4)
    assert found["outlook"] == ""
    assert found["commands"][0].endswith("train.context=2048 scheme.slope=0.25 --config-dir own --trust")


def test_a_multiple_and_a_long_context() -> None:
    assert explained("rope", case=("--train-length", "100", "--length", "2x"))["length"] == 200
    found = explained("rope", case=("--train-length", "16384", "--length", "2x"))
    assert found["commands"][0] == "posx train --scheme rope train.context=16384 train.batch_tokens=16384"


@pytest.mark.parametrize(("scheme", "extension"), [("learned", None), ("rope", "yarn+window"), ("t5", None)])
def test_the_commands_measure_it(
    scheme: str, extension: str | None, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As printed, one after the other, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", [sentence(120, n) for n in range(24)])
    own = [setting for setting in TINY if not setting.startswith("train.context")]
    asked = [*own, "data=text", "data.path=a.jsonl", "train.steps=2", *(["scheme.buckets=8"] if scheme == "t5" else [])]
    with_it = ["--extension", extension] if extension else []
    found = explained(scheme, *with_it, *asked, case=("--train-length", "16", "--length", "40"))
    train, evaluate, recommend = ([*shlex.split(line)[1:]] for line in found["commands"])
    posx(*train)
    records = json.loads(posx(*evaluate, "--json").stdout)
    by_extension = {r["extension"]: r["status"] for r in records if r["length"] == 40}
    assert by_extension.pop("none", "refused") == ("refused" if scheme == "learned" else "ok")
    assert set(by_extension.values()) == {"ok"}
    assert set(by_extension) == {"learned": {"interpolate"}, "rope": {"window+yarn"}}.get(
        scheme, {"rerope", "log-n", "window"}
    )
    posx(*recommend)
