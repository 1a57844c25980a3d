"""Tests of ``posx.results.bundle``: a bundle gives the numbers of the runs that it was made from."""

from __future__ import annotations

import json
import shutil
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
from posx.runs.bundle_runs import is_bundle
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
    write_bundle(read_records(shelf.folder, []), tmp_path / "results" / "kept")
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
    write_bundle(read_records(bundle, ["rope-seed0", "rope-seed1"]), tmp_path / "part")
    part = aggregate(read_records(tmp_path / "part", []))
    assert numbers(part) == numbers(aggregate(read_records(bundle, ["rope-seed0", "rope-seed1"])))


def test_a_damaged_bundle_is_a_sentence(bundle: Path) -> None:
    (bundle / "sums.parquet").write_bytes(b"PAR1")
    with pytest.raises(PosxError, match=r"sums\.parquet is damaged"):
        aggregate(read_records(bundle, []))


def test_labels_with_line_separators_come_back(tmp_path: Path) -> None:
    """JSON leaves U+2028 and U+0085 in strings, and str.splitlines splits there."""
    shelf = Shelf(tmp_path / "runs")
    label = "höhe\u2028a\x85b → 位置"
    shelf.put(hardness(), run="höhe-位置", **(ROPE | {"label": label}))
    write_bundle(read_records(shelf.folder, []), tmp_path / "paket ü")
    (record,) = read_records(tmp_path / "paket ü", [])
    assert (record.label, record.run) == (label, "höhe-位置")


def test_two_runs_of_one_name_are_a_sentence(shelf: Shelf, tmp_path: Path) -> None:
    shutil.copytree(shelf.folder / "rope-seed0", tmp_path / "other" / "rope-seed0")
    records = read_records(shelf.folder, ["rope-seed0", str(tmp_path / "other" / "rope-seed0")])
    with pytest.raises(PosxError, match="have the same name"):
        write_bundle(records, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_folder_with_other_files_is_not_a_target(shelf: Shelf, tmp_path: Path) -> None:
    """Nor is a file, or a folder where nothing can be written."""
    records = read_records(shelf.folder, ["rope-seed0"])
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(PosxError, match=r"is not a bundle: it contains notes\.txt"):
        write_bundle(records, folder)
    with pytest.raises(PosxError, match="cannot be written"):
        write_bundle(records, folder / "notes.txt")
    with pytest.raises(PosxError, match="cannot be written"):
        write_bundle(records, folder / "notes.txt" / "deeper")
    assert [path.name for path in tmp_path.rglob("*") if path.parent == folder] == ["notes.txt"]


def test_a_bundle_is_replaced_whole(bundle: Path, shelf: Shelf) -> None:
    """Its optional files go too, since they show other runs; what was put next to it stays."""
    for name in ("sweep.yaml", "table.md", "perplexity.svg", "protocols.md"):
        (bundle / name).write_text("old", "utf-8")
    write_bundle(read_records(shelf.folder, ["alibi-seed0"]), bundle, {"table.md": "new"})
    assert {r.run for r in read_records(bundle, [])} == {"alibi-seed0"}
    assert (bundle / "table.md").read_text("utf-8") == "new"
    assert {path.name for path in bundle.iterdir()} == {
        *("runs.jsonl", "metrics.parquet", "records.jsonl", "sums.parquet", "curves.parquet"),
        *("table.md", "protocols.md"),
    }


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")], ids=["ctrl-c", "full"])
@pytest.mark.parametrize("function", ["_run_line", "_curves", "_write_table"])
def test_an_interrupted_write_leaves_the_old_bundle(
    error: Any, function: str, bundle: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}

    def interrupted(*_: Any) -> None:
        raise error

    monkeypatch.setattr(f"posx.results.bundle.{function}", interrupted)
    for target in (bundle, bundle.parent / "new"):
        with pytest.raises((KeyboardInterrupt, PosxError)):
            write_bundle(read_records(shelf.folder, ["alibi-seed0"]), target)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_a_bundle_that_is_half_moved_is_no_bundle(
    bundle: Path, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: some files are new and others old. The next write repairs it."""
    real = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if target == bundle / "records.jsonl":
            raise KeyboardInterrupt
        return real(self, target)

    records = read_records(shelf.folder, ["alibi-seed0"])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_bundle(records, bundle)
    assert not is_bundle(bundle)
    with pytest.raises(PosxError, match="There are no evaluations"):
        read_records(bundle, [])
    write_bundle(read_records(shelf.folder, ["alibi-seed0"]), bundle)
    assert {r.run for r in read_records(bundle, [])} == {"alibi-seed0"}
