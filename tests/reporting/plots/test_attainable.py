"""Tests of ``posx.reporting.plots.attainable``."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest

from fixtures.plotted import (
    at,
    attainable,
    only_axis,
    shelf,  # noqa: F401
)
from fixtures.records import Shelf
from posx.reporting.plots.attainable import plot_gain


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """What a failed drawing left open must not count against the next test."""
    yield
    plt.close("all")


def test_gain_draws_shares_with_their_intervals(shelf: Shelf) -> None:
    """−0.2/0.4 = 50% with pi, 0.04/0.4 = −10% without."""
    cells = attainable(shelf, {"none": 0.04, "pi": -0.2})
    axis = only_axis(plot_gain(cells))
    labels = [text.get_text() for text in axis.get_yticklabels()]
    assert labels == ["rope + pi, 256", "rope, 256"]  # from below: in the order of the table from above
    dots = {float(line.get_ydata()[0]): line for line in axis.lines if len(line.get_xdata()) == 1}  # type: ignore[index, arg-type]
    assert float(dots[0].get_xdata()[0]) == pytest.approx(0.5, abs=1e-4)  # type: ignore[index]
    assert float(dots[1].get_xdata()[0]) == pytest.approx(-0.1, abs=1e-4)  # type: ignore[index]
    spans = {
        float(line.get_ydata()[0]): tuple(map(float, line.get_xdata()))  # type: ignore[index, arg-type]
        for line in axis.lines
        if len(line.get_xdata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]  # type: ignore[index, arg-type]
    }
    for place, extension, share in ((0, "pi", 0.5), (1, "none", -0.1)):
        found = at(cells, "rope", 256, extension).share
        assert found is not None
        assert found.interval is not None
        assert spans[place] == pytest.approx(found.interval)
        assert spans[place][0] < share < spans[place][1]
    marks = sorted(next(iter(line.get_xdata())) for line in axis.lines if list(line.get_ydata()) == [0, 1])  # type: ignore[arg-type]
    assert marks == [0.0, 1.0]


def test_a_share_outside_the_axis_is_an_arrow_with_its_number(shelf: Shelf) -> None:
    """With an attainable gain of 0.40, a change of +1.2 nats is −300%, and of −0.8 nats 200%."""
    axis = only_axis(plot_gain(attainable(shelf, {"none": 1.2, "pi": -0.8})))
    arrows = {line.get_marker(): float(line.get_xdata()[0]) for line in axis.lines if line.get_marker() in ("<", ">")}  # type: ignore[index]
    assert arrows == {"<": -1.0, ">": 1.5}
    assert {"-300%", "200%"} <= {text.get_text() for text in axis.texts}
    low, high = axis.get_xlim()
    assert low < -1.0 < 1.5 < high


def test_labels_of_bars_are_not_cut_off(shelf: Shelf) -> None:
    figure = plot_gain(attainable(shelf, {"none": 0.1, "window(w=64)+interpolate(how=linear)": -0.1}))
    figure.canvas.draw()
    axis = only_axis(figure)
    for text in (axis.xaxis.label, *axis.get_yticklabels(), *axis.texts):
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0, text.get_text()
        assert box.x1 <= figure.bbox.x1, text.get_text()
