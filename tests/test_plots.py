"""Plots: whole files that a reader and a machine can read, whatever the cells are."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest

from posx.errors import PosxError
from posx.plots import plot_perplexity
from posx.records import Record
from posx.statistics import aggregate
from test_records import record

LENGTHS = (64, 128, 256, 512)


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """What a failed drawing left open must not count against the next test."""
    yield
    plt.close("all")


def curve(label: str, nats: list[float | None], number: int = 0, **changes: object) -> list[Record]:
    """A row of cells at 1x, 2x, 4x, 8x."""
    return [
        record(value, label=label, run=label, length=length, config_sha256=f"{number:064x}", **changes)
        for length, value in zip(LENGTHS, nats, strict=False)
    ]


def draw(records: list[Record], folder: Path) -> tuple[Path, str]:
    """The PNG's path and the SVG's text, after both were found to be whole."""
    png, svg = plot_perplexity(aggregate(records), folder / "p")
    assert (png, svg) == (folder / "p.png", folder / "p.svg")
    assert sorted(p.name for p in folder.iterdir()) == ["p.png", "p.svg"]
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert png.read_bytes()[-8:-4] == b"IEND"
    text = svg.read_text("utf-8")
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert plt.get_fignums() == [], "a figure is left open"
    return png, text


def ink(png: Path) -> np.ndarray:
    """Saturated pixels: the lines, and not axes, grid or text in grey."""
    image = matplotlib.image.imread(png)[..., :3]
    return image.max(-1) - image.min(-1) > 0.2


def test_both_files_are_whole_and_the_drawing_names_its_lines(tmp_path: Path) -> None:
    records = [
        *curve("rope", [4.0, 4.2, 5.0, 6.0], 1),
        *curve("rope", [4.1, 4.1, 4.3, 4.6], 1, extension="pi"),
        *curve("alibi", [4.1, 4.0, 4.0, 4.0], 2),
        *curve("learned", [4.2, None, None, None], 3),
    ]
    png, text = draw(records, tmp_path)
    for name in ("rope", "rope + pi", "alibi", "learned", "trained at 64", "evaluation context (tokens)", "perplexity"):
        assert f"<!-- {name} -->" in text or f">{name}<" in text, name
    assert "100 test targets in 7 documents, fixed-targets, one seed" in text
    assert ink(png).sum() > 1000


def test_lines_differ_in_grey_too(tmp_path: Path) -> None:
    """Colour alone does not carry what is what: schemes have markers of their own, extensions dashes."""
    records = [
        *curve("rope", [4.0, 4.2, 5.0, 6.0], 1),
        *curve("rope", [4.1, 4.1, 4.3, 4.6], 1, extension="pi"),
        *curve("alibi", [4.1, 4.0, 4.0, 4.0], 2),
    ]
    _, text = draw(records, tmp_path)
    root = ElementTree.fromstring(text)
    name = "{http://www.w3.org/2000/svg}"
    paths = [p.get("style", "") for p in root.iter(f"{name}path")]
    dashes = {s.partition("stroke-dasharray:")[2].split(";")[0] for s in paths if "stroke-width: 1.7" in s}
    assert len(dashes) == 2  # none, and pi
    shapes = {
        g.get("d") for d in root.iter(f"{name}defs") for g in d.iter(f"{name}path") if "stroke" in g.get("style", "")
    }
    used = [u.get("style", "") for u in root.iter(f"{name}use")]
    closed = {shape for shape in shapes if shape and shape.strip().endswith("z")}  # ticks are open strokes
    assert len(closed) >= 2  # the markers of rope and of alibi
    assert any("fill: #ffffff" in style for style in used)  # pi's is hollow


def test_a_higher_perplexity_is_drawn_higher(tmp_path: Path) -> None:
    """The one line rises from left to right where its numbers do."""
    heights = []
    for number, nats in enumerate(([4.0, 4.5, 5.0, 5.5], [5.5, 5.0, 4.5, 4.0])):
        folder = tmp_path / str(number)
        folder.mkdir()
        png, _ = draw(curve("rope", nats), folder)
        rows, columns = np.nonzero(ink(png))
        left, right = rows[columns < np.quantile(columns, 0.1)], rows[columns > np.quantile(columns, 0.6)]
        heights.append(right.mean() - left.mean())
    assert heights[0] < -100 < 100 < heights[1]  # pixels count downwards


def test_only_dashes_are_a_sentence_and_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(PosxError, match="no number to plot") as caught:
        plot_perplexity(aggregate(curve("learned", [None, None])), tmp_path / "p")
    assert "posx table" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_one_cell_is_enough(tmp_path: Path) -> None:
    png, text = draw([record(4.0)], tmp_path)
    assert "rope" in text
    assert ink(png).sum() > 20  # its marker


def test_many_labels(tmp_path: Path) -> None:
    """Twelve lines that end at one height: more than there are colours, markers and room."""
    names = [f"scheme-{n}" for n in range(12)]
    _, text = draw([r for n, name in enumerate(names) for r in curve(name, [4.0, 4.0, 4.0, 4.0], n)], tmp_path)
    for name in names:
        assert f"<!-- {name} -->" in text or f">{name}<" in text, name


def test_seeds_make_a_band(tmp_path: Path) -> None:
    records = [
        record(nats + 0.3 * seed, seed=seed, run=f"rope-{seed}", length=length)
        for seed in range(3)
        for length, nats in zip(LENGTHS, (4.0, 4.2, 4.4, 4.6), strict=True)
    ]
    _, text = draw(records, tmp_path)
    assert "3 seeds" in text
    assert "FillBetweenPolyCollection" in text or "PolyCollection" in text


def test_unlike_targets_have_a_panel_each(tmp_path: Path) -> None:
    records = [*curve("rope", [4.0, 4.2]), *curve("alibi", [4.0, 4.2], 1, targets_sha256="66" * 32)]
    _, text = draw(records, tmp_path)
    assert text.count("100 test targets in 7 documents") == 2


def test_unlike_training_contexts_are_all_marked(tmp_path: Path) -> None:
    records = [*curve("rope", [4.0, 4.2]), record(4.0, length=256, base_context=256, label="long", run="long")]
    _, text = draw(records, tmp_path)
    assert "trained at 64" in text
    assert "trained at 256" in text


@pytest.mark.parametrize("label", ["<a> & b", "a--b", "100 % _$5", "$x_{$"])
def test_any_label_can_be_drawn(tmp_path: Path, label: str) -> None:
    draw(curve(label, [4.0, 4.2]), tmp_path)


@pytest.mark.parametrize("nats", [[4.0, 800.0], [800.0, 900.0], [800.0]])
def test_a_perplexity_past_all_numbers_does_not_crash(tmp_path: Path, nats: list[float]) -> None:
    """exp(800) is no float. The cell is in the table as ∞; the plot leaves it out, or says that there is none."""
    assert all(math.isinf(cell.ppl or 0) for cell in aggregate(curve("rope", nats)) if cell.nats_per_token == 800.0)
    if len(nats) == 2 and nats[0] < 700:
        draw(curve("rope", nats), tmp_path)
        return
    with pytest.raises(PosxError) as caught:
        plot_perplexity(aggregate(curve("rope", nats)), tmp_path / "p")
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_old_plot_survives_a_failed_one(tmp_path: Path) -> None:
    draw([record(4.0)], tmp_path)
    before = (tmp_path / "p.png").read_bytes()
    with pytest.raises(PosxError):
        plot_perplexity(aggregate([record(None)]), tmp_path / "p")
    assert (tmp_path / "p.png").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PosxError, match="cannot be written") as caught:
        plot_perplexity(aggregate([record(4.0)]), tmp_path / "file" / "p")
    assert "-o" in caught.value.hint
