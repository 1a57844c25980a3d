"""Tests of ``posx.results.query``."""

from __future__ import annotations

import pytest

from fixtures.compare import (
    compared,
    pair,
    shelf,  # noqa: F401
)
from fixtures.records import LONG, ROPE, Shelf, by_document, hardness
from posx.results.query import find_row


def test_extensions_of_one_model_are_compared(shelf: Shelf) -> None:
    shelf.row({256: (0.5, 0.05)}, seeds=2, **ROPE)
    shelf.row({256: (0.1, 0.05)}, seeds=2, extension="pi", **ROPE)
    shelf.row({256: (0.3, 0.05)}, seeds=2, extension="ntk", **ROPE)
    (one,) = compared(shelf, "rope:pi", "rope:ntk")
    assert (one["length"], one["difference"]) == (256, pytest.approx(-0.2, abs=1e-5))
    assert one["verdict"] == "A is better"
    (one,) = compared(shelf, "rope", "rope:pi")  # without an extension: as it was trained
    assert one["difference"] == pytest.approx(0.4, abs=1e-5)


def test_a_run_stands_for_its_seed_alone(shelf: Shelf) -> None:
    """Seed 1 of rope against all seeds of alibi: the seed that both have is paired."""
    pair(shelf, {256: (0.1, 0.02)})
    (one,) = compared(shelf, "rope-seed1", "alibi")
    assert one["seeds"] == [[1, 1]]
    assert one["a"] == pytest.approx(float(hardness(1).mean()) + 0.4 + 0.1, abs=1e-5)
    assert one["b"] == pytest.approx(float(hardness(1).mean()) + 0.4, abs=1e-5)
    (one,) = compared(shelf, shelf.folder / "rope-seed1", "alibi-seed1")
    assert one["seeds"] == [[1, 1]]


def test_a_control_trained_long_is_no_part_of_its_row(shelf: Shelf) -> None:
    pair(shelf, {256: (0.1, 0.02)}, seeds=1)
    shelf.put(hardness() - 1, length=256, run="rope-long", **LONG)
    (one,) = compared(shelf, "rope", "alibi")
    assert one["difference"] == pytest.approx(0.1, abs=1e-5)
    (one,) = compared(shelf, "rope-long", "rope")
    assert one["difference"] == pytest.approx(float(hardness().mean()) - 1 - (float(hardness().mean()) + 0.5), abs=1e-5)


def test_other_protocols_when_asked(shelf: Shelf) -> None:
    pair(shelf, {256: (0.1, 0.02)}, seeds=1)
    pair(shelf, {256: (-0.4, 0.02)}, seeds=1, protocol="stream", targets_sha256="66" * 32)
    assert compared(shelf, "rope", "alibi")[0]["difference"] == pytest.approx(0.1, abs=1e-5)
    (one,) = compared(shelf, "rope", "alibi", "--protocol", "stream")
    assert one["difference"] == pytest.approx(-0.4, abs=1e-5)


def test_the_validation_split_is_never_mixed_in(shelf: Shelf) -> None:
    pair(shelf, {256: (0.1, 0.02)}, seeds=1)
    pair(shelf, {256: (0.9, 0.02)}, seeds=1, split="validation", targets_sha256="66" * 32)
    (one,) = compared(shelf, "rope", "alibi")
    assert one["difference"] == pytest.approx(0.1, abs=1e-5)


def test_a_name_means_a_row_a_run_or_an_extension(shelf: Shelf) -> None:
    shelf.row({256: (0.5, 0.05)}, seeds=2, **ROPE)
    shelf.row({256: (0.1, 0.05)}, seeds=2, extension="window (w=64)", **ROPE)
    name, row = find_row(shelf.folder, "rope")
    assert name == "rope"
    assert {length: [r.seed for r in records] for length, records in row.items()} == {64: [0, 1], 256: [0, 1]}
    assert {r.extension for records in row.values() for r in records} == {"none"}
    _, row = find_row(shelf.folder, "rope:window(w=64)")
    assert {r.extension for records in row.values() for r in records} == {"window (w=64)"}
    _, row = find_row(shelf.folder, "rope-seed1:window (w=64)")
    assert [r.seed for records in row.values() for r in records] == [1]


def test_a_fine_tune_is_compared_as_it_was_trained(shelf: Shelf) -> None:
    tuned = {"label": "tuned", "config_sha256": "77" * 32, "parent_sha256": "33" * 32, "train_extension": "pi"}
    shelf.put(hardness(), length=256, extension="trained", **tuned)
    shelf.put(hardness() + 3, length=256, extension="none", **tuned)
    shelf.put(hardness() + by_document(0.2, 0.01), length=256, **ROPE)
    (one,) = compared(shelf, "tuned", "rope")
    assert one["difference"] == pytest.approx(-0.2, abs=1e-5)
