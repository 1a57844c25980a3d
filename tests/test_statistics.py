"""From records and the losses beside them to changes, intervals, verdicts, usable contexts, shares and differences."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from posx.errors import PosxError
from posx.results.aggregate import DELTA, Cell, aggregate, verdict_of
from posx.results.bootstrap import Interval, Replicates
from posx.results.compare import Difference, differences, refuse_unlike
from posx.results.records import Record, write_record

L = 64
# 15 documents of 10 targets and 15 of 30. They weigh as much as (15·40)²/(15·(100 + 900)) = 24 alike, and t at 97.5 %
# with 23 degrees of freedom stands in every printed table.
COUNTS = np.repeat([10, 30], 15)
EFFECTIVE, T23 = 24, 2.069
DOCUMENTS = np.repeat(np.arange(30) * 3 + 1, COUNTS)  # not all documents of a split hold targets
TARGETS = len(DOCUMENTS)
FEW = 400  # replicates, where what is tested does not hang on a quantile

LONG = {"config_sha256": "44" * 32, "run": "rope-long", "base_context": 256, "train_context": 256}
TUNED = {
    "config_sha256": "77" * 32,
    "recipe_sha256": "88" * 32,
    "parent_sha256": "33" * 32,
    "run": "rope-tuned",
    "train_context": 256,
    "train_extension": "pi",
}


def record(nats_per_token: float | None = 5.0, **changes: Any) -> Record:
    """A cell of a rope model: seed 0, no extension, at 1x of L = 64, with no file, unless said otherwise."""
    ok = nats_per_token is not None
    values: dict[str, Any] = {
        "run": "rope",
        "label": "rope",
        "scheme": "rope",
        "scheme_params": {"base": 10000.0},
        "extension": "none",
        "extension_params": {},
        "seed": 0,
        "base_context": L,
        "train_context": L,
        "train_extension": "none",
        "length": L,
        "protocol": "fixed-targets",
        "split": "test",
        "stride": 2,
        "target_context": 512,
        "n_targets": TARGETS,
        "n_documents": len(COUNTS),
        "targets_sha256": "11" * 32,
        "nats": nats_per_token * changes.get("n_targets", TARGETS) if nats_per_token is not None else None,
        "bytes": 3 * TARGETS,
        "status": "ok" if ok else "unsupported",
        "reason": "" if ok else "learned positions end at 64.",
        "parameters": 1234567,
        "backend": "dense",
        "dtype": "float32",
        "device": "a processor",
        "seconds": 2.0,
        "tokens_per_second": 1000.0,
        "peak_memory_bytes": 10**8,
        "model": "tiny",
        "data": "sotu",
        "corpus_sha256": "22" * 32,
        "config_sha256": "33" * 32,
        "recipe_sha256": "99" * 32,
        "parent_sha256": "",
        "train_steps": 100,
        "train_tokens": 10**6,
        "checkpoint_sha256": "",
        "max_targets": 4096,
        "target_seed": 0,
        "left_out": 0,
        "notes": [],
        "versions": {"posx": "0.2.0"},
    }
    assert not changes.keys() - values.keys(), "a field that records do not have"
    values |= changes
    if not values["checkpoint_sha256"]:  # each seed of each config ends at weights of its own
        values["checkpoint_sha256"] = f"{values['config_sha256'][:32]}{values['seed']:032x}"
    return Record(**values)


def write_losses(path: Path, nll: np.ndarray, documents: np.ndarray = DOCUMENTS) -> None:
    """As an evaluation leaves them."""
    number = len(nll)
    columns = {
        "document": pa.array(documents, pa.int32()),
        "position": pa.array(np.arange(number) + 512, pa.int32()),
        "context": pa.array(np.full(number, 63), pa.int32()),
        "bytes": pa.array(np.full(number, 3), pa.int32()),
        "nll": pa.array(nll.astype(np.float32), pa.float32()),
    }
    pq.write_table(pa.table(columns), path)


class Shelf:
    """A folder of records with their losses; ``put`` writes both and hands the record back."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.number = 0

    def put(self, nll: np.ndarray, documents: np.ndarray = DOCUMENTS, losses: bool = True, **changes: Any) -> Record:
        self.number += 1
        path = self.folder / f"{self.number:04d}.json"
        kept = nll.astype(np.float32).astype(np.float64)
        made = record(0.0, **({"n_targets": len(nll)} | changes))
        made = replace(made, nats=float(kept.sum()), path=path)
        write_record(path, made)
        if losses:
            write_losses(path.with_suffix(".parquet"), nll, documents)
        return made

    def failed(self, **changes: Any) -> Record:
        self.number += 1
        made = replace(record(None, **changes), path=self.folder / f"{self.number:04d}.json")
        write_record(made.path, made)  # type: ignore[arg-type]
        return made


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def losses(seed: int = 0, level: float = 5.0) -> np.ndarray:
    """NLL of a model: documents and targets are hard or easy, for every length of it alike. Their mean is ``level``."""
    draw = np.random.default_rng([0, seed])
    values = 0.5 * np.repeat(draw.standard_normal(len(COUNTS)), COUNTS) + draw.standard_normal(TARGETS)
    return values - values.mean() + level


def change(mean: float, spread: float = 0.0, seed: int = 0) -> np.ndarray:
    """A difference whose mean is ``mean``, and that is unlike from document to document by ``spread``."""
    draw = np.random.default_rng([1, seed])
    values = np.repeat(draw.standard_normal(len(COUNTS)), COUNTS) * spread
    return values - values.mean() + mean


# What is added to the losses at 1x so that the verdict is this one.
STATES = {
    "uses": change(-0.1, 0.01),
    "survives": change(0.0, 0.002),
    "breaks": change(0.1, 0.01),
    "undecided": change(0.01, 0.05),
}


def cell_of(cells: list[Cell], **wanted: Any) -> Cell:
    """The one cell whose first record has these values."""
    found = [c for c in cells if all(getattr(c.first, key) == value for key, value in wanted.items())]
    assert len(found) == 1, f"{len(found)} cells with {wanted}"
    return found[0]


def half(interval: tuple[float, float]) -> float:
    return (interval[1] - interval[0]) / 2


# ---------------------------------------------------------------- Δ and its interval


def plain_loop(pairs: list[tuple[np.ndarray, np.ndarray]], replicates: int) -> list[float]:
    """Errors of a mean over seeds of (after − before), by documents drawn once for all seeds. Written to be read."""
    sums, counts = [], []
    for after, before in pairs:
        of_document: dict[int, float] = {}
        targets: dict[int, int] = {}
        for document, x, y in zip(DOCUMENTS.tolist(), after.tolist(), before.tolist(), strict=True):
            of_document[document] = of_document.get(document, 0.0) + (x - y)
            targets[document] = targets.get(document, 0) + 1
        sums.append(of_document)
        counts.append(targets)
    names = sorted(counts[0])
    mean = math.fsum(math.fsum(one.values()) for one in sums) / len(pairs) / TARGETS
    draw = random.Random(1)
    errors = []
    for _ in range(replicates):
        drawn = [draw.choice(names) for _ in names]
        total = sum(counts[0][name] for name in drawn)
        seeds = [sum(one[name] for name in drawn) / total for one in sums]
        errors.append(sum(seeds) / len(seeds) - mean)
    return errors


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


ABOVE = math.nextafter(DELTA, 1)


@pytest.mark.parametrize(
    "low, high, verdict",
    [
        (-0.2, -0.1, "uses"),
        (-0.2, math.nextafter(0.0, -1), "uses"),
        (-0.2, 0.0, "survives"),  # b < 0 asks for less than 0
        (-0.2, math.nextafter(0.0, 1), "survives"),
        (0.0, 0.0, "survives"),
        (-0.2, DELTA, "survives"),
        (0.005, DELTA, "survives"),
        (DELTA, DELTA, "survives"),
        (-0.2, ABOVE, "undecided"),
        (0.0, ABOVE, "undecided"),
        (DELTA, 0.5, "undecided"),  # a > δ asks for more than δ
        (ABOVE, 0.5, "breaks"),
        (0.1, 0.5, "breaks"),
        (-5.0, 5.0, "undecided"),
    ],
)
def test_bounds_of_verdicts(low: float, high: float, verdict: str) -> None:
    assert verdict_of((low, high)) == verdict


def test_delta_is_a_hundredth_of_a_nat() -> None:
    """Of the protocol; every verdict hangs on it."""
    assert DELTA == 0.01


def test_a_verdict_is_read_from_the_simultaneous_interval() -> None:
    """Its single interval would say uses."""
    one = replace(aggregate([record(5.0, length=128)])[0], interval=Interval(-0.1, (-0.15, -0.05), (-0.21, 0.005)))
    assert one.verdict == "survives"


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


def test_a_row_of_json_says_both_intervals(shelf: Shelf) -> None:
    records = [shelf.put(losses()), *(shelf.put(losses() + change(0, 0.1, seed=n), length=128 * n) for n in (1, 2))]
    cell = cell_of(aggregate(records, FEW), length=256)
    row = json.loads(json.dumps(cell.as_dict(), allow_nan=False))
    assert cell.interval is not None
    assert row["interval"] == list(cell.interval.family)
    assert row["interval_alone"] == list(cell.interval.alone)
    assert (row["verdict"], row["delta"], row["deltas"]) == (cell.verdict, cell.delta, list(cell.deltas))
    assert row["usable_context"] == cell.usable


# ---------------------------------------------------------------- whose change it is


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


# ---------------------------------------------------------------- what is not there


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


def test_another_number_of_losses_than_targets_is_refused(shelf: Shelf) -> None:
    before, after = shelf.put(losses()), shelf.put(losses(), length=128)
    write_losses(after.path.with_suffix(".parquet"), losses()[:-1], DOCUMENTS[:-1])  # type: ignore[union-attr]
    with pytest.raises(PosxError, match=rf"0002\.parquet holds {TARGETS - 1} targets, but its record {TARGETS}") as e:
        aggregate([before, after], FEW)
    assert e.value.hint


SHIFTED = DOCUMENTS + 1
MOVED = np.sort(np.where(np.arange(TARGETS) == 0, DOCUMENTS[-1], DOCUMENTS))  # one target more of the last document


@pytest.mark.parametrize("documents", [SHIFTED, MOVED], ids=["other documents", "other counts"])
def test_losses_of_other_documents_are_refused(shelf: Shelf, documents: np.ndarray) -> None:
    records = [shelf.put(losses()), shelf.put(losses(), documents, length=128)]
    with pytest.raises(PosxError, match="other targets than its hash says") as caught:
        aggregate(records, FEW)
    assert caught.value.hint


@pytest.mark.parametrize("documents", [SHIFTED, MOVED, np.arange(TARGETS)], ids=["other", "counts", "more"])
def test_rows_of_other_documents_never_share_a_table(shelf: Shelf, documents: np.ndarray) -> None:
    """Each of the two rows agrees with itself, but they share a hash, and the draws of documents, with each other."""
    other = {"config_sha256": "55" * 32, "label": "alibi", "scheme": "alibi", "run": "alibi"}
    records = [
        shelf.put(losses()),
        shelf.put(losses() + STATES["undecided"], length=128),
        shelf.put(losses(), documents, **other),
        shelf.put(losses() + STATES["undecided"], documents, length=128, **other),
    ]
    with pytest.raises(PosxError, match="other targets than its hash says"):
        aggregate(records, FEW)


@pytest.mark.parametrize("damage", ["garbage", "empty", "cut off", "a column is missing"])
def test_damaged_losses_are_a_sentence(shelf: Shelf, damage: str) -> None:
    before, after = shelf.put(losses()), shelf.put(losses(), length=128)
    path = after.path.with_suffix(".parquet")  # type: ignore[union-attr]
    if damage == "garbage":
        path.write_bytes(b"\x00\xff" * 500)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        pq.write_table(pq.read_table(path).drop_columns(["nll"]), path)
    with pytest.raises(PosxError, match=r"0002\.parquet is damaged") as caught:
        aggregate([before, after], FEW)
    assert caught.value.hint


# ---------------------------------------------------------------- usable context


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


# ---------------------------------------------------------------- share of the attainable gain


def gain(
    shelf: Shelf,
    at: float = 4.9,
    long: float = 4.8,
    seeds: tuple[int, ...] = (0,),
    long_seeds: tuple[int, ...] | None = None,
    spread: float = 0.02,
    short: float | None = 5.3,
    **changes: Any,
) -> list[Record]:
    """Base models with 5.0 at 1x, and ``at`` at 256; models trained at 256 with ``long`` there, and ``short`` at 64."""
    records = []
    for seed in seeds:
        records.append(shelf.put(losses(seed), seed=seed))
        records.append(shelf.put(losses(seed) + change(at - 5.0, spread, seed=1), seed=seed, length=256))
    for seed in seeds if long_seeds is None else long_seeds:
        own = LONG | {"seed": seed} | changes
        records.append(shelf.put(losses(seed) + change(long - 5.0, spread, seed=2), length=256, **own))
        if short is not None:
            records.append(shelf.put(losses(seed) + change(short - 5.0, spread, seed=3), length=L, **own))
    return records


@pytest.mark.parametrize(
    "at, long, share",
    [(4.9, 4.8, 0.5), (4.8, 4.8, 1.0), (5.0, 4.8, 0.0), (5.1, 4.8, -0.5), (4.7, 4.8, 1.5), (6.0, 4.8, -5.0)],
)
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_share_of_the_attainable_gain(
    shelf: Shelf, at: float, long: float, share: float, seeds: tuple[int, ...]
) -> None:
    """Half of it at 4.9, all at 4.8, less than nothing at 5.1, more than all at 4.7: no bound is put on it."""
    found = cell_of(aggregate(gain(shelf, at, long, seeds), FEW), length=256, base_context=L).share
    assert found is not None
    assert found.attainable == pytest.approx(0.2, abs=1e-6)
    assert found.share == pytest.approx(share, abs=1e-5)
    assert found.long == pytest.approx(4.8, abs=1e-6)
    assert found.long_gain == pytest.approx(0.5, abs=1e-6)
    assert found.seeds == seeds
    assert found.attainable_interval is not None
    assert 0 < found.attainable_interval[0] < 0.2 < found.attainable_interval[1]
    assert found.interval is not None
    assert found.interval[0] < share < found.interval[1]


def test_the_ratio_is_bootstrapped_whole(shelf: Shelf) -> None:
    """Against the quantiles of one ratio a replicate, by loops: 24 documents, one seed, one factor for both parts."""
    before, after, top = (losses() + change(m, 0.05, seed=s) for m, s in ((0, 0), (-0.1, 1), (-0.2, 2)))
    records = [shelf.put(before), shelf.put(after, length=256), shelf.put(top, length=256, **LONG)]
    upper, lower = plain_loop([(before, after)], 8000), plain_loop([(before, top)], 8000)  # the same draws
    draw, wide = random.Random(3), math.sqrt(EFFECTIVE / (EFFECTIVE - 1))
    ratios = []
    for u, v in zip(upper, lower, strict=True):
        factor = wide / math.sqrt(draw.gammavariate(23 / 2, 2) / 23)
        ratios.append((0.1 + u * factor) / (0.2 + v * factor))
    low, high = np.quantile(ratios, [0.025, 0.975])
    found = cell_of(aggregate(records, 20_000), length=256, base_context=L).share
    assert found is not None
    assert found.interval is not None
    assert found.interval == pytest.approx((low, high), abs=0.06 * (high - low))


def test_a_sure_share_of_an_unsure_gain(shelf: Shelf) -> None:
    """Where the one gain is half of the other in every document, their ratio is known, however they vary."""
    step = change(-0.2, 0.1, seed=4)
    records = [
        shelf.put(losses()),
        shelf.put(losses() + step / 2, length=256),
        shelf.put(losses() + step, length=256, **LONG),
    ]
    found = cell_of(aggregate(records, FEW), length=256, base_context=L).share
    assert found is not None
    assert found.attainable_interval is not None
    assert half(found.attainable_interval) > 0.02
    assert found.interval == pytest.approx((0.5, 0.5), abs=1e-5)


@pytest.mark.parametrize(
    "long, spread", [(4.98, 0.5), (5.0, 0.0), (5.2, 0.01)], ids=["unsure", "nothing", "a loss for sure"]
)
def test_a_dash_unless_there_is_something_to_attain(shelf: Shelf, long: float, spread: float) -> None:
    found = cell_of(aggregate(gain(shelf, 4.9, long, spread=spread), FEW), length=256, base_context=L).share
    assert found is not None
    assert (found.share, found.interval) == (None, None)
    assert found.attainable == pytest.approx(5.0 - long, abs=1e-6)
    assert found.attainable_interval is not None
    assert found.attainable_interval[0] <= 0


def test_seeds_that_not_all_three_have_are_left_out(shelf: Shelf) -> None:
    """Seed 0 has no long model, seed 3 no short one, and seed 4 gave no number at 256."""
    records = gain(shelf, seeds=(0, 1, 2), long_seeds=(1, 2, 3, 4))
    # Seed 0 gains a whole nat, and would pull the mean if it were counted.
    records = [r for r in records if not (r.seed == 0 and r.base_context == L)]
    records += [shelf.put(losses(0), seed=0), shelf.put(losses(0) - 1.0, seed=0, length=256)]
    records += [shelf.put(losses(4), seed=4), shelf.failed(seed=4, length=256)]
    found = cell_of(aggregate(records, FEW), length=256, base_context=L).share
    assert found is not None
    assert found.seeds == (1, 2)
    assert found.share == pytest.approx(0.5, abs=1e-5)
    assert found.attainable == pytest.approx(0.2, abs=1e-6)


def test_no_seed_in_common_is_no_share(shelf: Shelf) -> None:
    records = gain(shelf, seeds=(0, 1), long_seeds=(2, 3))
    assert cell_of(aggregate(records, FEW), length=256, base_context=L).share is None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"recipe_sha256": "ab" * 32}, id="other recipe"),
        pytest.param({"base_context": 128, "train_context": 128}, id="trained at another length"),
        pytest.param({"targets_sha256": "66" * 32}, id="other targets"),
        pytest.param({"dtype": "bfloat16"}, id="other dtype"),
        pytest.param({"extension": "pi"}, id="not as it was trained"),
    ],
)
def test_no_share_without_a_long_training_of_the_same_recipe(shelf: Shelf, changes: dict[str, Any]) -> None:
    cells = aggregate(gain(shelf, **changes), FEW)
    assert cell_of(cells, length=256, config_sha256="33" * 32).share is None


def test_the_long_model_has_no_share_of_its_own(shelf: Shelf) -> None:
    cells = aggregate(gain(shelf), FEW)
    assert cell_of(cells, length=256, base_context=256).share is None
    assert cell_of(cells, length=L, base_context=256).share is None
    assert cell_of(cells, length=L, base_context=L).share is None


def test_an_extension_has_a_share(shelf: Shelf) -> None:
    """Of the same gain, against the same weights without it."""
    records = [
        *gain(shelf, at=5.5),
        shelf.put(losses() + change(0.3, 0.01), extension="pi"),
        shelf.put(losses() + change(-0.15, 0.01), extension="pi", length=256),
    ]
    found = cell_of(aggregate(records, FEW), length=256, extension="pi").share
    assert found is not None
    assert found.share == pytest.approx(0.75, abs=1e-5)


def test_the_long_models_own_gain_needs_its_number_at_l(shelf: Shelf) -> None:
    found = cell_of(aggregate(gain(shelf, short=None), FEW), length=256, base_context=L).share
    assert found is not None
    assert found.long_gain is None
    assert found.share == pytest.approx(0.5, abs=1e-5)


def test_the_long_models_own_gain_is_paired_by_seed(shelf: Shelf) -> None:
    """Seed 1, a bad one, has no number at L: the mean at L of seed 0 less the mean at 256 of both is no gain."""
    records = gain(shelf, seeds=(0, 1), long_seeds=(0,))
    records.append(shelf.put(losses(1) + 1.0, length=256, **LONG | {"seed": 1}))
    found = cell_of(aggregate(records, FEW), length=256, base_context=L).share
    assert found is not None
    assert found.long_gain is None or found.long_gain == pytest.approx(0.5, abs=1e-6)


def test_without_losses_the_attainable_gain_stays_and_the_share_is_a_dash(shelf: Shelf) -> None:
    records = gain(shelf)
    next(r for r in records if r.base_context == 256).path.with_suffix(".parquet").unlink()  # type: ignore[union-attr]
    found = cell_of(aggregate(records, FEW), length=256, base_context=L).share
    assert found is not None
    assert found.attainable == pytest.approx(0.2, abs=1e-6)
    assert (found.attainable_interval, found.share, found.interval) == (None, None, None)


def test_a_row_of_json_says_the_share(shelf: Shelf) -> None:
    row = cell_of(aggregate(gain(shelf), FEW), length=256, base_context=L).as_dict()
    row = json.loads(json.dumps(row, allow_nan=False))
    assert row["share"] == pytest.approx(0.5, abs=1e-5)
    assert row["attainable"] == pytest.approx(0.2, abs=1e-6)
    assert row["long_nats_per_token"] == pytest.approx(4.8, abs=1e-6)
    assert row["share_interval"][0] < 0.5 < row["share_interval"][1]


# ---------------------------------------------------------------- two rows against each other


def sides(shelf: Shelf, by_seed: dict[int, float], other: dict[int, float], length: int = L, **changes: Any) -> tuple:
    """Records of A, all at 5 nats plus what is said for the seed, and of B; of targets that both find hard."""
    a = [shelf.put(losses() + v + change(0, 0.05, 10 + s), seed=s, length=length) for s, v in by_seed.items()]
    b = [
        shelf.put(losses() + v, seed=s, length=length, run="alibi", config_sha256="55" * 32, **changes)
        for s, v in other.items()
    ]
    return {length: a}, {length: b}


def test_seeds_are_paired_by_their_number(shelf: Shelf) -> None:
    """In any order, and without those of one side alone: unpaired, the difference would come out at about −29."""
    a, b = sides(shelf, {2: 0.1, 0: 0.2, 1: 0.3}, {7: 90.0, 1: 0.2, 2: 0.05})
    (found,) = differences(a, b, FEW)
    assert found.seeds == ((1, 1), (2, 2))
    assert found.difference == pytest.approx((0.1 + 0.05) / 2, abs=1e-6)
    assert (found.a, found.b) == (pytest.approx(5.2, abs=1e-6), pytest.approx(5.125, abs=1e-6))
    assert (found.length, found.n_targets, found.n_documents) == (L, TARGETS, 30)
    assert found.interval is not None
    assert found.interval.mean == pytest.approx(found.difference, abs=1e-6)


def test_where_no_seed_is_common_they_stand_side_by_side(shelf: Shelf) -> None:
    a, b = sides(shelf, {0: 0.1, 1: 0.2}, {5: 0.0, 6: 0.0, 7: 9.0})
    (found,) = differences(a, b, FEW)
    assert found.seeds == ((0, 5), (1, 6))
    assert found.difference == pytest.approx(0.15, abs=1e-6)


def test_only_lengths_of_both_are_compared(shelf: Shelf) -> None:
    a, b = sides(shelf, {0: 0.1}, {0: 0.0})
    a[128] = [shelf.put(losses(), length=128)]
    b[256] = [shelf.put(losses(), length=256)]
    a[512], b[512] = [shelf.put(losses(), length=512)], [shelf.failed(length=512)]
    assert [d.length for d in differences(a, b, FEW)] == [L]
    assert differences(a, {}, FEW) == []


def test_the_interval_of_a_difference_is_that_of_its_pairs(shelf: Shelf) -> None:
    """The documents of a pair are hard for both: paired, the interval is much narrower than the spread of losses."""
    a, b = sides(shelf, {0: 0.10, 1: 0.13, 2: 0.12}, {0: 0.0, 1: 0.0, 2: 0.0})
    (found,) = differences(a, b, 20_000)
    sums = np.stack(
        [
            np.add.reduceat(0.1 + change(v, 0.05, 10 + s), np.cumsum([0, *COUNTS[:-1]]))
            for s, v in enumerate((0, 0.03, 0.02))
        ]
    )
    (expected,) = Replicates(COUNTS, [sums], 20_000, seed=1).intervals()
    assert found.interval is not None
    assert found.difference == pytest.approx(0.35 / 3, abs=1e-6)
    assert half(found.interval.alone) == pytest.approx(half(expected.alone), rel=0.06)
    assert half(found.interval.alone) < 0.06


def test_intervals_are_simultaneous_over_the_lengths(shelf: Shelf) -> None:
    a, b = {}, {}
    for number, length in enumerate((64, 128, 256, 512, 1024)):
        a[length] = [shelf.put(losses() + change(0.0, 0.1, 20 + number), length=length)]
        b[length] = [shelf.put(losses(), length=length, run="alibi", config_sha256="55" * 32)]
    found = differences(a, b, 5000)
    assert [d.length for d in found] == [64, 128, 256, 512, 1024]
    for one in found:
        assert one.interval is not None
        assert half(one.interval.family) > 1.1 * half(one.interval.alone)
    (single,) = differences({64: a[64]}, {64: b[64]}, 5000)
    assert single.interval is not None
    assert found[0].interval is not None
    assert half(found[0].interval.alone) == pytest.approx(half(single.interval.alone), rel=0.06)


def test_a_difference_without_losses_has_no_interval(shelf: Shelf) -> None:
    a, b = sides(shelf, {0: 0.1}, {0: 0.0}, losses=False)
    (found,) = differences(a, b, FEW)
    assert found.difference == pytest.approx(0.1, abs=1e-6)
    assert (found.interval, found.verdict) == (None, "")


def test_lengths_of_other_targets_are_not_drawn_with_each_other(shelf: Shelf) -> None:
    """Two evaluations, each with targets of its own: at 128 other documents speak than at 64, and count otherwise."""
    a, b = sides(shelf, {0: 0.1}, {0: 0.0})
    fewer = slice(0, TARGETS - 30)
    for side in (a, b):
        nll = losses()[fewer] + (change(0.2, 0.05)[fewer] if side is a else 0.0)
        side[128] = [shelf.put(nll, DOCUMENTS[fewer], length=128, n_documents=29, targets_sha256="66" * 32)]
    try:
        found = differences(a, b, FEW)
    except PosxError:
        return  # to refuse them is as good
    for one in found:
        assert one.interval is not None
        assert one.interval.mean == pytest.approx(one.difference, abs=1e-6)


@pytest.mark.parametrize(
    "field, value, reason",
    [
        ("stride", 8, "tail strides differ"),
        ("target_context", 1024, "other contexts before them"),
        ("max_targets", 512, "other numbers of targets"),
        ("split", "validation", "other splits"),
        ("protocol", "stream", "protocols differ"),
        ("target_seed", 3, "drawn with other seeds"),
        ("corpus_sha256", "77" * 32, "texts differ"),
    ],
)
def test_unlike_targets_are_refused_with_the_reason(shelf: Shelf, field: str, value: Any, reason: str) -> None:
    a, b = sides(shelf, {0: 0.1}, {0: 0.0}, targets_sha256="66" * 32, **{field: value})
    with pytest.raises(PosxError, match="rope and alibi were scored on unlike targets") as caught:
        differences(a, b, FEW)
    message = str(caught.value)
    assert reason in message
    if not field.endswith("sha256"):
        assert f": {getattr(a[L][0], field)} and {value}" in message
    # No reason that is none.
    assert message.count(";") == 0
    assert "posx eval rope alibi" in caught.value.hint


def test_all_reasons_are_named(shelf: Shelf) -> None:
    a, b = sides(shelf, {0: 0.1}, {0: 0.0}, targets_sha256="66" * 32, stride=8, split="validation")
    with pytest.raises(PosxError) as caught:
        differences(a, b, FEW)
    assert "tail strides differ" in str(caught.value)
    assert "other splits" in str(caught.value)


def test_targets_that_differ_for_no_setting_are_of_another_tokenizer() -> None:
    with pytest.raises(PosxError, match="tokenizers differ"):
        refuse_unlike(record(5.0), record(5.0, targets_sha256="66" * 32))


def test_the_same_targets_by_other_settings_are_the_same() -> None:
    """Where all targets fit, a larger limit draws the same ones."""
    refuse_unlike(record(5.0), record(5.0, max_targets=8192))


@pytest.mark.parametrize(
    "low, high, words",
    [
        (-0.3, -0.1, "A is better"),
        (-0.3, math.nextafter(0.0, -1), "A is better"),
        (-0.3, 0.0, "undecided"),
        (-DELTA, 0.0, "no difference"),
        (-DELTA, DELTA, "no difference"),
        (0.0, DELTA, "no difference"),
        (0.0, 0.0, "no difference"),
        (-ABOVE, DELTA, "undecided"),
        (-DELTA, ABOVE, "undecided"),
        (0.0, 0.3, "undecided"),
        (math.nextafter(0.0, 1), 0.3, "B is better"),
        (0.1, 0.3, "B is better"),
    ],
)
def test_words_for_a_difference(low: float, high: float, words: str) -> None:
    """Losses: the smaller is better. Read from the simultaneous interval."""
    mean = (low + high) / 2
    interval = Interval(mean, (mean, mean), (low, high))
    assert Difference(L, 5.0, 5.0, mean, interval, ((0, 0),), 1, 1).verdict == words


@pytest.mark.parametrize("shift, words", [(0.1, "B is better"), (-0.1, "A is better"), (0.5, "B is better")])
def test_the_side_with_less_loss_wins(shelf: Shelf, shift: float, words: str) -> None:
    a, b = sides(shelf, {0: shift, 1: shift + 0.001, 2: shift}, {0: 0.0, 1: 0.0, 2: 0.0})
    (found,) = differences(a, b, 2000)
    assert found.verdict == words
