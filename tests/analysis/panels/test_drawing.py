"""Tests of ``posx.analysis.panels.drawing``."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from fixtures.models import SCHEMES, posx
from fixtures.shown_schemes import (
    SMALL,
    maps,
    subject_of,
    there,  # noqa: F401
)
from posx.analysis.panels.drawing import picture
from posx.analysis.properties import Subject

EMBED = {"learned", "learned-concat", "randomized", "shape", "sinusoidal", "sinusoidal-concat"}


ROTATE = {"layers", "p-rope", "partial-rope", "rope", "ssmax", "xpos"}


def axes(figure: Figure) -> list[Axes]:
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_drawn(name: str, there: Path) -> None:
    overrides = {"layers": ["scheme.layers=[rope,nope]"], "t5": ["scheme.buckets=8"]}.get(name, [])
    output = json.loads(posx("show", name, "-o", "drawn", "--json", *SMALL, *overrides).stdout)
    assert output["files"] == ["drawn.png", "drawn.svg"]
    assert sorted(path.name for path in there.iterdir()) == output["files"]
    with Image.open("drawn.png") as image:
        pixels = np.asarray(image.convert("L"), dtype=float)
    assert min(pixels.shape) > 400
    assert pixels.std() > 10
    root = ElementTree.parse("drawn.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    (first, *others) = output["parts"]
    assert (first["norms"] is not None) == (name in ROTATE)
    assert (first["shift"] is not None) == (name in ROTATE | EMBED)
    assert (first["reach"] is None) == (name in ROTATE | EMBED)
    assert [part["layers"] for part in others] == ([[2]] if name == "layers" else [])


@pytest.mark.parametrize(("name", "kind"), [("alibi", "added"), ("rope", "angles"), ("sinusoidal", "vectors")])
def test_heat_maps_contain_the_numbers(name: str, kind: str) -> None:
    one = subject_of(name)
    figure = picture(one)
    drawn = [axis.images[0] for axis in axes(figure) if axis.images]
    expected = list(maps(one, kind).values.values())
    assert len(drawn) == len(expected)
    for image, values in zip(drawn, expected, strict=True):
        shown = np.ma.filled(image.get_array(), np.nan)  # type: ignore[arg-type]
        assert np.array_equal(shown, values, equal_nan=True)
        low, high = image.get_clim()
        assert low <= np.nanmin(values)
        assert high >= np.nanmax(values)
        assert image.get_extent()[2:] == [63.5, -0.5]
    plt.close(figure)


def test_the_training_context_is_marked_in_longer_plots() -> None:
    def said(one: Subject) -> list[str]:
        figure = picture(one)
        found = [text.get_text() for axis in axes(figure) for text in axis.texts]
        plt.close(figure)
        return found

    assert said(subject_of("rope")) == ["trained at 16"] * 3
    assert said(subject_of("alibi")) == ["L = 16", "trained at 16"]
    assert said(subject_of("rope", length="1x")) == []
