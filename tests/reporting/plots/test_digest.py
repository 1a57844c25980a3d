"""Tests of ``posx.reporting.plots.digest``, and of the files that carry it."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from fixtures.pictures import stored_digest
from posx.reporting.plots.digest import contents, digest
from posx.reporting.plots.style import canvas, save, svg_bytes


def figure(
    high: float = 3.25, name: str = "rope", title: str = "text", x: str = "tokens", area: float = 0.5, note: str = "a"
) -> Figure:
    drawn, (axis,) = canvas(1)
    axis.plot([1, 2, 4], [1.5, 2.0, high], label=name)
    axis.plot([2, 2], [1.0, 3.0])
    axis.fill_between([1, 2], 0.0, area)
    axis.set_title(title, loc="left")
    axis.set_xlabel(x)
    axis.text(1.0, 2.0, note)
    axis.legend()
    return drawn


@pytest.fixture(autouse=True)
def closed() -> None:
    plt.close("all")


@pytest.mark.parametrize(
    "change",
    [{"high": 3.2501}, {"name": "alibi"}, {"title": "other"}, {"x": "steps"}, {"area": 0.6}, {"note": "b"}],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_a_picture_changes_the_digest(change: dict[str, float]) -> None:
    assert digest(figure(**change)) != digest(figure())  # type: ignore[arg-type]


def test_the_last_bits_and_the_size_of_the_picture_do_not() -> None:
    assert digest(figure(high=3.25 * (1 + 1e-13))) == digest(figure())
    larger = figure()
    larger.set_size_inches(12, 9)
    larger.canvas.draw()
    assert digest(larger) == digest(figure())
    assert digest(figure(area=1e-15)) == digest(figure(area=-1e-15))


def test_contents_are_the_numbers_that_are_drawn() -> None:
    lines = contents(figure())
    assert any(
        line.startswith("panel 0: line rope ") and "['1', '2', '4'] ['1.5', '2', '3.25']" in line for line in lines
    )
    assert "panel 0: legend rope" in lines


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_file_carries_its_digest_and_is_the_same_each_time(suffix: str, tmp_path: Path) -> None:
    (one,) = save(figure(), tmp_path / "one", [suffix])
    (other,) = save(figure(), tmp_path / "other", [suffix])
    assert stored_digest(one) == digest(figure())
    assert one.read_bytes() == other.read_bytes()


def test_svg_bytes_are_those_of_the_file(tmp_path: Path) -> None:
    (path,) = save(figure(), tmp_path / "one", [".svg"])
    assert svg_bytes(figure()) == path.read_bytes()
    assert b"<dc:date>" not in path.read_bytes()


def test_a_png_shows_the_same_pixels_as_matplotlib_drew(tmp_path: Path) -> None:
    (path,) = save(figure(), tmp_path / "one", [".png"])
    figure().savefig(tmp_path / "plain.png", dpi=160)
    assert (plt.imread(path)[..., :3] == plt.imread(tmp_path / "plain.png")[..., :3]).all()
