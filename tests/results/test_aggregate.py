"""Tests of ``posx.results.aggregate``."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from fixtures.cells import (
    EFFECTIVE,
    FEW,
    STATES,
    T23,
    TARGETS,
    L,
    Shelf,
    cell_of,
    change,
    half,
    losses,
    plain_loop,
    record,
    shelf,  # noqa: F401
)
from posx.results.aggregate import aggregate

TUNED = {
    "config_sha256": "77" * 32,
    "recipe_sha256": "88" * 32,
    "parent_sha256": "33" * 32,
    "run": "rope-tuned",
    "train_context": 256,
    "train_extension": "pi",
}


def test_the_interval_of_one_seed_is_that_of_a_plain_bootstrap(shelf: Shelf) -> None:
    """Standard error by loops over Python's numbers, times what Student's t says for 24 documents."""
    before = losses()
    records, expected = [shelf.put(before)], {}
    for number, length in enumerate((128, 256, 512)):
        after = before + change(0.05, 0.3, seed=number) + 0.2 * np.random.default_rng(number).standard_normal(TARGETS)
        records.append(shelf.put(after, length=length))
        kept = [x.astype(np.float32).astype(np.float64) for x in (after, before)]
        errors = plain_loop([(kept[0], kept[1])], 6000)
        deviation = math.sqrt(sum(e * e for e in errors) / len(errors))
        expected[length] = (
            float((kept[0] - kept[1]).mean()),
            T23 * deviation * math.sqrt(EFFECTIVE / (EFFECTIVE - 1)),
        )
    cells = aggregate(records, 20_000)
    for length, (delta, width) in expected.items():
        cell = cell_of(cells, length=length)
        assert cell.delta == pytest.approx(delta, rel=1e-9)
        assert cell.interval is not None
        assert cell.interval.mean == pytest.approx(delta, rel=1e-9)
        assert half(cell.interval.alone) == pytest.approx(width, rel=0.05)
        assert sum(cell.interval.alone) / 2 == pytest.approx(delta)
        assert half(cell.interval.family) > half(cell.interval.alone)


def test_the_interval_of_three_seeds_adds_students_t_for_them(shelf: Shelf) -> None:
    """The plain loops again, studentised, plus t with two degrees of freedom times the standard error over seeds."""
    records, pairs, deltas = [], [], []
    for seed in range(3):
        before = losses(seed).astype(np.float32).astype(np.float64)
        after = before + change(0.02 + 0.05 * seed**2, 0.0) + change(0.0, 0.5, seed=9) + change(0.0, 0.1, seed=seed)
        after = after.astype(np.float32).astype(np.float64)
        records += [shelf.put(before, seed=seed), shelf.put(after, seed=seed, length=256)]
        pairs.append((after, before))
        deltas.append(float((after - before).mean()))
    draw = random.Random(2)
    error = math.sqrt(sum((d - sum(deltas) / 3) ** 2 for d in deltas) / 2 / 3)
    wide = math.sqrt(EFFECTIVE / (EFFECTIVE - 1))
    both = sorted(
        abs(
            e * wide / math.sqrt(draw.gammavariate(23 / 2, 2) / 23)
            + error * draw.gauss() / math.sqrt(draw.gammavariate(1, 2) / 2)
        )
        for e in plain_loop(pairs, 15_000)
    )
    cell = cell_of(aggregate(records, 50_000), length=256)
    assert cell.deltas == pytest.approx(deltas, rel=1e-9)
    assert cell.delta == pytest.approx(sum(deltas) / 3, rel=1e-9)
    assert cell.interval is not None
    assert half(cell.interval.alone) == pytest.approx(both[int(0.95 * len(both))], rel=0.06)
    # One cell in the table: nothing to be simultaneous with.
    assert half(cell.interval.family) == pytest.approx(half(cell.interval.alone), rel=1e-9)


def test_the_control_changes_nothing_and_gets_no_verdict(shelf: Shelf) -> None:
    records = [shelf.put(losses(s), seed=s) for s in range(3)]
    records += [shelf.put(losses(s) + STATES["breaks"], seed=s, length=256) for s in range(3)]
    cells = aggregate(records, FEW)
    control = cell_of(cells, length=L)
    assert control.is_control
    assert control.delta == 0.0
    assert control.deltas == (0.0, 0.0, 0.0)
    assert control.verdict == ""
    assert cell_of(cells, length=256).verdict == "breaks"


@pytest.mark.parametrize("state", STATES)
def test_verdicts_of_a_table(shelf: Shelf, state: str) -> None:
    cells = aggregate([shelf.put(losses()), shelf.put(losses() + STATES[state], length=128)], FEW)
    assert cell_of(cells, length=128).verdict == state


def test_an_extension_at_1x_is_a_change_too(shelf: Shelf) -> None:
    """pi squeezes short inputs as well; that row has no control of its own."""
    cells = aggregate([shelf.put(losses()), shelf.put(losses() + STATES["breaks"], extension="pi")], FEW)
    cell = cell_of(cells, extension="pi")
    assert not cell.is_control
    assert cell.delta == pytest.approx(0.1, abs=1e-6)
    assert cell.verdict == "breaks"


def test_simultaneous_is_never_narrower_than_single(shelf: Shelf) -> None:
    records = [shelf.put(losses(s), seed=s) for s in range(2)]
    for number, length in enumerate((128, 256, 512, 1024)):
        for seed in range(2):
            after = losses(seed) + change(0.02 * seed, 0.1, seed=number)
            records.append(shelf.put(after, seed=seed, length=length))
    found = [c.interval for c in aggregate(records, FEW) if c.interval is not None and not c.is_control]
    assert len(found) == 4
    for interval in found:
        assert interval.family[0] <= interval.alone[0] <= interval.mean <= interval.alone[1] <= interval.family[1]


def test_the_family_is_the_whole_table_and_no_more(shelf: Shelf) -> None:
    """More cells of the same targets widen the simultaneous interval, of another split they do not."""
    one = [shelf.put(losses()), shelf.put(losses() + change(0.0, 0.1), length=128)]
    more = [
        shelf.put(losses() + change(0.0, 0.1, seed=n), length=128, extension=name)
        for n, name in enumerate(("pi", "ntk", "yarn", "window", "interpolate"), start=1)
    ]
    other = [replace(r, split="validation", targets_sha256="66" * 32) for r in (*one, *more)]
    alone = cell_of(aggregate(one, 5000), length=128).interval
    wide = cell_of(aggregate([*one, *more], 5000), extension="none", length=128).interval
    beside = cell_of(aggregate([*one, *other], 5000), extension="none", length=128, split="test").interval
    assert alone is not None
    assert wide is not None
    assert half(wide.family) > 1.15 * half(alone.family)
    assert half(wide.alone) == pytest.approx(half(alone.alone), rel=0.06)
    assert beside == alone


def test_the_same_records_give_the_same_bits(shelf: Shelf) -> None:
    records = [shelf.put(losses()), *(shelf.put(losses() + change(0, 0.1, seed=n), length=128 * n) for n in (1, 2, 4))]
    assert [c.interval for c in aggregate(records, FEW)] == [c.interval for c in aggregate(records, FEW)]


def test_a_fine_tune_is_compared_with_itself_at_1x(shelf: Shelf) -> None:
    """Not with the run that it started from, nor with its own weights stripped of what they were trained with."""
    records = [
        shelf.put(losses(level=5.0)),
        shelf.put(losses(level=6.0), length=256),
        shelf.put(losses(level=5.5), extension="trained", **TUNED),
        shelf.put(losses(level=5.2), extension="trained", length=256, **TUNED),
        shelf.put(losses(level=5.8), extension="none", **TUNED),
        shelf.put(losses(level=7.0), extension="none", length=256, **TUNED),
    ]
    cells = aggregate(records, FEW)
    tuned = {"train_extension": "pi"}
    control = cell_of(cells, extension="trained", length=L, **tuned)
    assert control.is_control
    assert (control.delta, control.verdict) == (0.0, "")
    at = cell_of(cells, extension="trained", length=256, **tuned)
    assert at.delta == pytest.approx(-0.3, abs=1e-6)
    assert at.verdict == "uses"
    stripped = cell_of(cells, extension="none", length=L, **tuned)
    assert not stripped.is_control
    assert stripped.delta == pytest.approx(0.3, abs=1e-6)
    assert cell_of(cells, extension="none", length=256, **tuned).delta == pytest.approx(1.5, abs=1e-6)
    assert cell_of(cells, train_extension="none", length=256).delta == pytest.approx(1.0, abs=1e-6)
    assert (at.usable, stripped.usable) == (256, None)


def test_a_fine_tune_without_its_own_1x_has_no_change(shelf: Shelf) -> None:
    records = [
        shelf.put(losses()),
        shelf.put(losses(), extension="none", **TUNED),
        shelf.put(losses(), extension="trained", length=256, **TUNED),
    ]
    cell = cell_of(aggregate(records, FEW), extension="trained", length=256)
    assert (cell.delta, cell.interval, cell.verdict) == (None, None, "")


@pytest.mark.parametrize("missing", ["of the cell", "of the control", "of both"])
def test_without_losses_numbers_stay_and_intervals_do_not(shelf: Shelf, missing: str) -> None:
    before = shelf.put(losses(), losses=missing == "of the cell")
    after = shelf.put(losses() + STATES["breaks"], losses=missing == "of the control", length=128)
    cell = cell_of(aggregate([before, after], FEW), length=128)
    assert cell.nats_per_token == pytest.approx(5.1, abs=1e-6)
    assert cell.delta == pytest.approx(0.1, abs=1e-6)
    assert (cell.interval, cell.verdict) == (None, "")


def test_losses_of_one_seed_that_are_missing_take_the_interval(shelf: Shelf) -> None:
    """An interval of fewer seeds than the number beside it would speak of something else."""
    records = [shelf.put(losses(s), seed=s) for s in range(2)]
    records += [shelf.put(losses(s) + STATES["uses"], losses=s == 0, seed=s, length=128) for s in range(2)]
    cell = cell_of(aggregate(records, FEW), length=128)
    assert cell.delta == pytest.approx(-0.1, abs=1e-6)
    assert cell.interval is None


def test_the_others_keep_their_intervals(shelf: Shelf) -> None:
    records = [
        shelf.put(losses()),
        shelf.put(losses() + STATES["uses"], length=128),
        shelf.put(losses() + STATES["uses"], losses=False, length=256),
    ]
    cells = aggregate(records, FEW)
    assert cell_of(cells, length=128).verdict == "uses"
    assert cell_of(cells, length=256).interval is None


def test_records_that_were_never_files_have_no_intervals() -> None:
    cell = cell_of(aggregate([record(5.0), record(5.1, length=128)], FEW), length=128)
    assert cell.delta == pytest.approx(0.1)
    assert cell.interval is None


def test_one_document_says_nothing_about_others(shelf: Shelf) -> None:
    all_in_one = np.full(TARGETS, 4)
    records = [
        shelf.put(losses(), all_in_one, n_documents=1),
        shelf.put(losses() + STATES["breaks"], all_in_one, n_documents=1, length=128),
    ]
    cell = cell_of(aggregate(records, FEW), length=128)
    assert cell.delta == pytest.approx(0.1, abs=1e-6)
    assert (cell.interval, cell.verdict) == (None, "")


@pytest.mark.parametrize(
    "row, usable, undecided",
    [
        pytest.param({L: "control"}, L, False, id="only 1x"),
        pytest.param({L: "control", 128: "uses", 256: "survives"}, 256, False, id="all of it"),
        pytest.param({L: "control", 128: "breaks"}, L, False, id="nothing beyond 1x"),
        pytest.param({L: "control", 128: "survives", 256: "breaks", 512: "uses"}, 128, False, id="the first counts"),
        pytest.param({L: "control", 128: "survives", 256: "failed", 512: "uses"}, 128, False, id="not computed"),
        pytest.param({L: "control", 128: "undecided", 256: "survives"}, 256, True, id="undecided on the way"),
        pytest.param({L: "control", 128: "survives", 256: "undecided"}, 256, True, id="undecided at the end"),
        pytest.param({L: "control", 128: "survives", 256: "breaks", 512: "undecided"}, 128, False, id="doubt after it"),
        pytest.param({L: "control", 128: "unsure", 256: "survives"}, None, False, id="no losses"),
        pytest.param({32: "breaks", L: "control", 128: "uses"}, 128, False, id="shorter than L breaks"),
        pytest.param({32: "undecided", L: "control", 128: "uses"}, 128, False, id="shorter than L is undecided"),
        pytest.param({32: "failed", L: "control"}, L, False, id="shorter than L fails"),
        pytest.param({L: "failed", 128: "failed"}, None, False, id="nothing computed"),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_usable_context(
    shelf: Shelf, row: dict[int, str], usable: int | None, undecided: bool, backwards: bool
) -> None:
    records = []
    for length, state in row.items():
        if state == "failed":
            records.append(shelf.failed(length=length))
        else:
            shift = STATES.get(state, STATES["survives"] if state == "unsure" else np.zeros(TARGETS))
            records.append(shelf.put(losses() + shift, losses=state != "unsure", length=length))
    cells = aggregate(reversed(records) if backwards else records, FEW)
    for length, state in row.items():
        expected = state if state in STATES else ""
        assert cell_of(cells, length=length).verdict == expected, "the example is not what it says"
    assert {(c.usable, c.usable_undecided) for c in cells} == {(usable, undecided)}


def test_usable_context_is_of_a_row(shelf: Shelf) -> None:
    """An extension that spoils 1x has none, whatever it does further out; the model without it keeps its own."""
    records = [
        shelf.put(losses()),
        shelf.put(losses() + STATES["breaks"], length=128),
        shelf.put(losses() + STATES["breaks"], extension="pi"),
        shelf.put(losses() + STATES["uses"], extension="pi", length=128),
        shelf.put(losses() + STATES["survives"], extension="ntk"),
        shelf.put(losses() + STATES["uses"], extension="ntk", length=128),
    ]
    cells = aggregate(records, FEW)
    assert {(c.group.extension, c.usable) for c in cells} == {("none", L), ("pi", None), ("ntk", 128)}
