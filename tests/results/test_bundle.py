"""Tests of ``posx.results.bundle``: a bundle gives the numbers of the runs that it was made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.records import ALIBI, COUNTS, DOCUMENTS, ROPE, Shelf, by_document, hardness
from posx.config.compose import compose_settings, to_yaml
from posx.errors import PosxError
from posx.results.aggregate import aggregate
from posx.results.bundle import write_bundle
from posx.results.cells import Cell
from posx.results.curves import Line, by_context, by_each_document, by_place
from posx.results.parts import octaves
from posx.results.query import find_cell, find_row
from posx.results.records import as_json, read_records
from posx.runs.directory import find_run, metrics, run_folders
from posx.utils.files import sha256_file

ROWS: list[dict[str, Any]] = [{"step": 10, "nats_per_token": 7.25}, {"step": 20, "nats_per_token": 6.5, "lr": 1e-3}]
META = {"corpus_sha256": "aa", "tokenizer_sha256": "bb", "lineage": {"start": None}}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Two rows of two seeds at 1x and 4x, whole windows of one of them, and a cell that could not be computed."""
    shelf = Shelf(tmp_path / "runs")
    position = np.concatenate([np.arange(count) * 37 + 512 for count in COUNTS])
    for number, row in enumerate((ROPE, ALIBI)):
        for seed in range(2):
            common = row | {"seed": seed, "position": position, "checkpoint_sha256": f"{number}{seed}" * 32}
            plain = hardness(seed) - 0.1 * number
            shelf.put(plain, length=64, **common)
            shelf.put(plain + by_document(0.05, 0.1, seed=number), length=256, **common)
    shelf.put(None, length=512, status="unsupported", reason="too long", **ROPE)
    draw = np.random.default_rng(3)
    shelf.curve((5 + draw.standard_normal(100 * 5)).astype(np.float32), 100, [1, 3, 1], **ROPE)
    config = to_yaml(compose_settings(["scheme=rope", "optim.lr=1e-5"]))
    for folder in run_folders(shelf.folder):
        (folder / "config.yaml").write_text(config, "utf-8")
        (folder / "meta.json").write_text(json.dumps(META), "utf-8")
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return shelf


@pytest.fixture
def bundle(shelf: Shelf, tmp_path: Path) -> Path:
    write_bundle(shelf.folder, [], tmp_path / "results" / "kept")
    return tmp_path / "results" / "kept"


def numbers(cells: list[Cell]) -> list[Any]:
    """Everything that a table shows of its cells."""
    return [(c.group, c.length, c.nats_per_token, c.delta, c.interval, c.verdict, c.share, c.usable) for c in cells]


def points(lines: list[Line]) -> list[Any]:
    return [line.points for line in lines]


def lines(cells: list[Cell]) -> list[Line]:
    """What position plots and the table of curves draw."""
    windows = [c for c in cells if c.comparison.protocol == "curve"]
    fixed = {(c.group.label, c.length): c for c in cells if c.comparison.protocol == "fixed-targets"}
    pairs = [(fixed[label, 256], fixed[label, 64]) for label in ("rope", "alibi")]
    return [
        *(by_context(c) for c in windows),
        *(by_context(c, octaves(c.length)) for c in windows),
        *(by_place(*pair) for pair in pairs),
        *(by_each_document(*pair) for pair in pairs),
    ]


def test_a_bundle_is_a_handful_of_files(bundle: Path) -> None:
    names = {"runs.jsonl", "metrics.parquet", "records.jsonl", "sums.parquet", "curves.parquet"}
    assert {path.name for path in bundle.iterdir()} == names


def test_tables_and_curves_are_those_of_the_runs(shelf: Shelf, bundle: Path) -> None:
    live, kept = aggregate(read_records(shelf.folder, [])), aggregate(read_records(bundle, []))
    assert any(cell.interval for cell in live)
    assert numbers(kept) == numbers(live)
    drawn = points(lines(live))
    assert [len(line) > 5 for line in drawn] == [True] * 6
    assert points(lines(kept)) == drawn


def test_parts_by_place_are_the_means_of_the_losses(shelf: Shelf, bundle: Path) -> None:
    """Of one document, by hand: eight parts hold all targets once."""
    from posx.results.parts import parts_of

    record = next(r for r in read_records(bundle, []) if r.protocol == "fixed-targets" and r.status == "ok")
    parts = parts_of(record, "place")
    assert parts is not None
    assert sum(int(part.counts.sum()) for part in parts) == len(DOCUMENTS)
    assert record.nats == pytest.approx(sum(part.nats.sum() for part in parts), abs=1e-9)


def test_runs_records_and_metrics_come_back(shelf: Shelf, bundle: Path) -> None:
    live, kept = read_records(shelf.folder, []), read_records(bundle, [])
    assert [as_json(r) for r in kept] == [as_json(r) for r in live]
    assert [r.key for r in kept] == [r.key for r in live]
    for name in ("rope-seed0", "alibi-seed1"):
        one, other = find_run(bundle, name), find_run(shelf.folder, name)
        assert (one.config, one.meta, one.step) == (other.config, META, 0)
        assert metrics(one) == metrics(other) == ROWS


def test_the_hash_of_the_losses_stays(shelf: Shelf, bundle: Path) -> None:
    stored = [json.loads(line) for line in (bundle / "records.jsonl").read_text("utf-8").splitlines()]
    for line in stored:
        losses = shelf.folder / line["run"] / "eval" / f"{line['key']}.parquet"
        assert line["losses_sha256"] == (sha256_file(losses) if losses.is_file() else None)
    assert [line["record"]["status"] for line in stored if line["losses_sha256"] is None] == ["unsupported"]


def test_a_bundle_is_named_as_runs_are(bundle: Path, tmp_path: Path) -> None:
    everything = read_records(bundle, [])
    elsewhere = tmp_path / "none"
    assert read_records(elsewhere, [str(bundle)]) == everything
    own = read_records(bundle, ["rope-seed0"])
    assert {r.run for r in own} == {"rope-seed0"}
    assert read_records(elsewhere, [str(bundle / "rope-seed0")]) == own
    assert find_cell(bundle, own[0].key) == own[0]
    assert find_row(bundle, "alibi")[1].keys() == {64, 256}
    with pytest.raises(PosxError, match="rope-seed7"):
        read_records(bundle, ["rope-seed7"])


def test_a_bundle_can_be_bundled(bundle: Path, tmp_path: Path) -> None:
    write_bundle(bundle, ["rope-seed0", "rope-seed1"], tmp_path / "part")
    part = aggregate(read_records(tmp_path / "part", []))
    assert numbers(part) == numbers(aggregate(read_records(bundle, ["rope-seed0", "rope-seed1"])))


def test_a_damaged_bundle_is_a_sentence(bundle: Path) -> None:
    (bundle / "sums.parquet").write_bytes(b"PAR1")
    with pytest.raises(PosxError, match=r"sums\.parquet is damaged"):
        aggregate(read_records(bundle, []))
