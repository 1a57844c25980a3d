"""Tests of ``posx.cli.plot``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from fixtures.commands import (
    runs,  # noqa: F401
    text,  # noqa: F401 - a fixture
    there,  # noqa: F401
)
from fixtures.models import posx
from fixtures.plotted import (
    attainable,
    fine_tuned,
    shelf,  # noqa: F401
)
from fixtures.records import Shelf
from fixtures.stored_records import record, stored
from posx.errors import PosxError
from posx.reporting.plots import plot
from posx.results.aggregate import aggregate


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """What a failed drawing left open must not count against the next test."""
    yield
    plt.close("all")


def refused(*arguments: object) -> str:
    """The error of a command: exit code 2, nothing on standard output, a sentence and a way out."""
    result = posx(*arguments, code=2)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    message = result.stderr.partition("Error: ")[2]
    lines = [line for line in message.splitlines() if line.strip()]
    assert len(lines) == 2, result.stderr
    return " ".join(lines)


def test_the_command_names_its_files_by_kind(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    fine_tuned(shelf)
    attainable(Shelf(tmp_path / "gain"), {"none": 0.1})
    there = ("--runs-dir", tmp_path)
    assert posx("plot", *there).stdout.split() == [str(tmp_path / f"perplexity.{s}") for s in ("png", "svg")]
    assert posx("plot", "--kind", "finetune", *there).stdout.split()[0] == str(tmp_path / "finetune.png")
    done = posx("plot", "--kind", "gain", "--runs-dir", tmp_path / "gain", "-o", tmp_path / "new" / "figure.svg")
    assert done.stdout.split() == [str(tmp_path / "new" / f"figure.{s}") for s in ("png", "svg")]
    assert "Next: posx table" in done.stderr


def test_a_mistake_is_a_sentence(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record(5.0), record(5.5, length=128))
    there = ("--runs-dir", runs)
    before = sorted(tmp_path.rglob("*"))
    assert "no kind of plot 'heatmap'" in refused("plot", "--kind", "heatmap", *there)
    assert "Available: context, document, place." in refused("plot", "--kind", "position", "--by", "time", *there)
    assert "no run 'rope-seed1'" in refused("plot", "rope-seed1", *there)
    assert "no evaluations" in refused("plot", "--runs-dir", tmp_path / "nowhere")
    assert "no attainable gain" in refused("plot", "--kind", "gain", *there)
    assert "controls: [4x]" in refused("plot", "--kind", "gain", *there)
    assert "no fine-tuning" in refused("plot", "--kind", "finetune", *there)
    assert "no curve" in refused("plot", "--kind", "position", *there)
    assert "--protocol curve" in refused("plot", "--kind", "position", *there)
    for by in ("place", "document"):
        assert "losses of single targets are missing" in refused("plot", "--kind", "position", "--by", by, *there)
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "file").touch()
    assert "cannot be written" in refused("plot", "-o", tmp_path / "file" / "p", *there)


@pytest.mark.parametrize("kind", ["length", "gain", "finetune", "position"])
def test_an_unknown_way_is_refused_for_every_kind(tmp_path: Path, kind: str) -> None:
    runs = stored(tmp_path / "runs", record(5.0), record(5.5, length=128))
    message = refused("plot", "--kind", kind, "--by", "time", "--runs-dir", runs)
    assert "no value of --by 'time'" in message
    assert "Available: context, document, place." in message
    with pytest.raises(PosxError, match="no value of --by 'time'"):
        plot(kind, aggregate([record(5.0)]), tmp_path / "p", "time")


@pytest.mark.parametrize("kind", ["length", "gain", "finetune"])
@pytest.mark.parametrize("by", ["context", "place", "document"])
def test_a_way_to_draw_positions_is_refused_for_other_kinds(tmp_path: Path, kind: str, by: str) -> None:
    runs = stored(tmp_path / "runs", record(5.0), record(5.5, length=128))
    before = sorted(tmp_path.rglob("*"))
    message = refused("plot", "--kind", kind, "--by", by, "--runs-dir", runs)
    assert f"--by {by} is for --kind position, not for --kind {kind}." in message
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(PosxError, match="is for --kind position"):
        plot(kind, aggregate([record(5.0)]), tmp_path / "p", by)


def test_a_curve_without_its_losses_is_a_sentence(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record(5.0, protocol="curve", length=256))
    assert "the losses of targets are missing" in refused("plot", "--kind", "position", "--runs-dir", runs)


def test_records_without_losses_can_still_be_drawn_over_length(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record(5.0), record(5.5, length=128))
    assert "perplexity.png" in posx("plot", "--runs-dir", runs).stdout


torch.set_num_threads(1)


def test_a_plot_goes_where_it_was_sent(runs: Path, there: Path) -> None:
    posx("eval", "rope", "--length", "1x", "--runs-dir", runs)
    assert posx("plot", "-o", "out/my.png", "--runs-dir", runs).stdout.splitlines() == ["out/my.png", "out/my.svg"]
    assert sorted(p.name for p in Path("out").iterdir()) == ["my.png", "my.svg"]
