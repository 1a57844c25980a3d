"""Tests of ``posx.cli.show``: extension."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.models import posx
from fixtures.shown_extensions import SMALL


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = json.loads(posx("show", "rope", "--extension", "pi(s=4)+window", "--json", *SMALL).stdout)
    assert told["extension"] == "pi(s=4)+window"
    assert told["extension_params"]["pi"] == {"s": 4.0}
    assert told["files"] == ["rope-pi-s-4-window.png"]
    with Image.open(told["files"][0]) as image:
        assert np.asarray(image.convert("L"), dtype=float).std() > 10
    (part,) = told["parts"]
    assert part["norms"] < 1e-6
    shown = posx("show", "rope", "--extension", "yarn", *SMALL).stdout
    assert "rope with yarn" in shown
    assert f"Products of rotated pairs are multiplied by {(0.1 * math.log(4) + 1) ** 2:.4g}" in shown
    found = json.loads(posx("show", "rope", "--extension", "yarn", "--json", *SMALL).stdout)["parts"][0]
    assert found["norms"] == pytest.approx(0.1 * math.log(4), rel=1e-4)
    shown = posx("show", "learned", "--extension", "interpolate", "-o", "x.svg", *SMALL).stdout
    assert "The 64 tokens have positions from 0 to 15, chosen by interpolate." in shown
    shown = posx("show", "learned", "--extension", "window", "-o", "x.svg", *SMALL).stdout
    assert "The scheme has only 16 positions; 64 were requested." in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rope", "--extension", "yarm"], "Did you mean yarn"),
        (["alibi", "--extension", "pi"], "does not fit alibi"),
        (["rope", "--extension", "pi+ntk"], "cannot be combined"),
        (["rope", "--extension", "pi(s=0)"], "must be at least 1"),
        (["rope", "train.extension=pi"], "Use --extension pi"),
        (["rope", "--extension", "sinks(n=60)", "train.context=16"], "sinks"),
    ],
)
def test_mistakes_are_sentences(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = posx("show", *arguments, code=2)
    assert result.stdout == ""
    assert said in result.stderr
    assert list(tmp_path.iterdir()) == []
