"""Tests of ``posx.results.aggregate``: seeds."""

from __future__ import annotations

import math

import pytest

from fixtures.stored_records import BYTES, record
from fixtures.stored_records import TARGETS as BARE
from fixtures.table_cells import OTHER, markdown_rows, only, seeds
from posx.reporting.formats import render
from posx.results.aggregate import aggregate
from posx.results.records import Record


def test_nats_are_averaged_before_anything_is_exponentiated() -> None:
    (cell,) = aggregate(seeds([math.log(10), math.log(1000)]))
    assert cell.nats_per_token == pytest.approx(math.log(100))
    assert cell.ppl == pytest.approx(100)  # the mean of the perplexities would be 505
    assert cell.seeds == [0, 1]


def test_bits_per_byte_follow_from_the_same_mean() -> None:
    (cell,) = aggregate(seeds([4.0, 6.0]))
    assert cell.bpb == pytest.approx(5.0 * BARE / math.log(2) / BYTES)


def test_spread_is_the_sample_standard_deviation() -> None:
    (cell,) = aggregate(seeds([1.0, 2.0, 3.0, 6.0]))
    # Mean 3; squares 4 + 1 + 0 + 9 = 14; divided by n − 1 = 3.
    assert cell.spread == pytest.approx(math.sqrt(14 / 3))
    (alone,) = aggregate(seeds([1.0]))
    assert alone.spread is None


def test_delta_is_paired_by_seed() -> None:
    """Seed 1 has no number at 4x: against the mean control of both, the change would come out at −0.5."""
    controls = seeds([4.0, 6.0, 5.0])
    longer = [r for r in seeds([4.5, 0.0, 5.5], length=256) if r.seed != 1]
    failed = record(None, seed=1, run="rope-seed1", length=256)
    cell = only(aggregate([*controls, failed, *longer]), length=256)
    assert cell.seeds == [0, 2]
    assert cell.nats_per_token == pytest.approx(5.0)
    assert cell.delta == pytest.approx(0.5)


def test_delta_of_an_extension_is_against_the_model_without_it() -> None:
    cells = aggregate(
        [record(5.0), record(5.5, extension="pi"), record(4.0, **OTHER), record(5.8, extension="pi", length=128)]
    )
    assert only(cells, extension="pi", length=64).delta == pytest.approx(0.5)
    assert only(cells, extension="pi", length=128).delta == pytest.approx(0.8)
    assert only(cells, label="alibi").delta == 0.0


@pytest.mark.parametrize(
    "control",
    [
        pytest.param([], id="none"),
        pytest.param([record(None)], id="failed"),
        pytest.param([record(5.0, targets_sha256="66" * 32)], id="other targets"),
        pytest.param([record(5.0, config_sha256="77" * 32)], id="other config"),
        pytest.param([record(5.0, checkpoint_sha256="77" * 32)], id="other weights"),
        pytest.param([record(5.0, seed=1)], id="other seed"),
        pytest.param([record(5.0, dtype="bfloat16")], id="other dtype"),
        pytest.param([record(5.0, extension="window")], id="extended"),
        pytest.param([record(5.0, protocol="stream")], id="other protocol"),
    ],
)
def test_without_its_control_a_cell_has_no_delta(control: list[Record]) -> None:
    cell = only(aggregate([*control, record(5.5, length=256)]), length=256)
    assert cell.nats_per_token == pytest.approx(5.5)
    assert cell.delta is None
    _, row = markdown_rows(render([cell], "md"))
    assert row[4] == "244.7 · 5.500"  # no change beside it
    assert "against the same weights" not in render([cell], "md")


def test_one_seed_without_a_control_leaves_no_delta_of_the_others() -> None:
    records = [record(5.0), *seeds([5.5, 5.7], length=128)]
    assert only(aggregate(records), length=128).delta is None


def test_a_seed_that_was_trained_twice_counts_once() -> None:
    records = [*seeds([4.0, 6.0]), record(4.0, run="rope-seed0-2")]
    (cell,) = aggregate(records)
    assert cell.seeds == [0, 1]
    assert cell.nats_per_token == pytest.approx(5.0)


def test_a_seed_trained_twice_is_compared_with_its_own_weights() -> None:
    """On two machines the same seed ends at slightly other weights; a control is of the same weights."""
    first = [record(5.0), record(5.2, length=128)]
    again = {"run": "rope-seed0-2", "checkpoint_sha256": "88" * 32}
    second = [record(6.0, **again), record(6.9, length=128, **again)]
    for records in ([*first, *second], [*second, *first], [first[0], second[0], second[1], first[1]]):
        cells = aggregate(records)
        assert only(cells, length=64).delta == 0.0
        assert only(cells, length=128).delta in (pytest.approx(0.2), pytest.approx(0.9))


def test_a_number_is_kept_where_the_same_seed_also_failed() -> None:
    """A cell that ran out of memory once, and was computed by a second run of that seed."""
    failed = record(None, run="rope-seed0", status="oom", reason="out of memory")
    for records in ([failed, record(5.0, run="rope-seed0-2")], [record(5.0, run="rope-seed0-2"), failed]):
        (cell,) = aggregate(records)
        assert cell.nats_per_token == pytest.approx(5.0)
