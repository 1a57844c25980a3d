"""Tests of ``posx.api.results``."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import posx
from fixtures.api_runs import (
    overrides,  # noqa: F401 - a fixture
    run,  # noqa: F401 - a fixture
    text,  # noqa: F401 - a fixture
)
from fixtures.corpora import child_environment
from posx import api

torch.set_num_threads(1)


def test_records_as_a_frame(run: posx.Run) -> None:
    records = posx.evaluate(run, ["1x", "2x"], max_targets=64)
    frame = posx.load_records(run.path.parent).set_index("path")
    for record in records:
        row = frame.loc[str(record.path)]
        assert record.nats is not None
        assert row["perplexity"] == pytest.approx(math.exp(record.nats / record.n_targets))
        assert row["bits_per_byte"] == pytest.approx(record.nats / math.log(2) / record.bytes)
        assert row["multiple"] == record.length / 16
    assert posx.load_run(run.path).step == 3
    with pytest.raises(posx.PosxError, match="There are no evaluations"):
        posx.load_records(run.path.parent / "nowhere")


def test_a_table_equals_the_output_of_posx_table(run: posx.Run, tmp_path: Path) -> None:
    copy = posx.train(run.config, tmp_path / "rope")
    table = posx.Table(posx.evaluate(copy, ["1x", "2x"], ["none", "pi"], max_targets=64))
    command = [sys.executable, "-m", "posx", "table", "--runs-dir", str(tmp_path), "--format"]
    environment = child_environment()
    for form, rendered in (("md", table.to_markdown()), ("json", table.render("json"))):
        done = subprocess.run([*command, form], capture_output=True, text=True, env=environment, check=True)
        assert rendered == done.stdout
    frame = table.to_pandas()
    assert list(frame["length"]) == [cell.length for cell in table.cells]
    assert list(frame["nats_per_token"]) == pytest.approx([cell.nats_per_token for cell in table.cells])


def test_two_extensions_are_compared_on_the_same_targets(run: posx.Run) -> None:
    records = posx.evaluate(run, ["1x", "2x"], ["none", "pi"], max_targets=64)
    nats = {(r.extension, r.length): r.nats_per_token for r in records}
    output = api.compare("rope:pi", "rope:none", runs_dir=run.path.parent)
    by_length = {row["length"]: row for row in output.values}
    assert by_length.keys() >= {16, 32}
    for length in (16, 32):
        row = by_length[length]
        assert (row["a_name"], row["b_name"]) == ("rope:pi", "rope:none")
        assert row["difference"] == pytest.approx(row["a"] - row["b"])
    (row,) = api.compare("rope:pi", "rope:none", [32], runs_dir=run.path.parent).values
    assert row["a"] == pytest.approx(nats["pi", 32])
    assert row["b"] == pytest.approx(nats["none", 32])
    with pytest.raises(posx.PosxError, match="compared with itself"):
        api.compare("rope", "rope:none", runs_dir=run.path.parent)
    with pytest.raises(posx.PosxError, match="not both evaluated at 48 tokens"):
        api.compare("rope:pi", "rope:none", [48], runs_dir=run.path.parent)
    with pytest.raises(posx.PosxError, match="There is no extension 'yarn'"):
        api.compare("rope:yarn", "rope", runs_dir=run.path.parent)


def test_a_run_of_a_bundle_has_records_but_no_weights(run: posx.Run, tmp_path: Path) -> None:
    records = posx.evaluate(run, ["1x", "2x"], max_targets=64)
    bundled = api.bundle(tmp_path / "packed", [run.name], runs_dir=run.path.parent)
    assert (bundled.left_out, bundled.unfinished) == ([], [])
    loaded = posx.load_run(tmp_path / "packed" / "rope")
    assert loaded.config == run.config
    frame = posx.load_records(tmp_path / "packed" / "rope")
    assert len(frame) == len(posx.load_records(tmp_path / "packed")) == len(bundled.records) >= len(records)
    assert set(frame["run"]) == {"rope"}
    with pytest.raises(posx.PosxError, match="contains no weights"):
        posx.evaluate(loaded, ["2x"])


def test_folders_without_runs(run: posx.Run, tmp_path: Path) -> None:
    for path in (tmp_path, run.path.parent):
        with pytest.raises(posx.PosxError, match="is not a posx run"):
            posx.load_run(path)
    with pytest.raises(posx.PosxError, match="There are no evaluations"):
        posx.load_records(tmp_path)
