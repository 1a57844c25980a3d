"""Tests of ``posx.training.finetune``: lineage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from fixtures.finetuned_runs import (
    EXACT,
    LONG,
    MORE,
    STEPS,
    L,
    as_neox,
    ask,
    by_host,
    finetune,
    gap,
    losses,
    own,  # noqa: F401
    posx,
    record_of,
    runs,  # noqa: F401
    text,  # noqa: F401 - a fixture
)
from posx.results.records import read_records
from posx.runs.directory import Run, open_run
from posx.runs.identity import group_hash
from posx.utils.files import sha256_file


def test_a_finetune_says_where_it_comes_from(runs: Path) -> None:
    first, run = open_run(runs / "rope"), open_run(runs / "rope-pi")
    (checkpoint,) = first.checkpoints.glob("step-*")
    lineage = run.meta["lineage"]
    begin = lineage.pop("start")
    assert lineage == {"base_context": L, "train_context": LONG, "train_extension": "pi(s=4)"}
    assert begin["weights_sha256"] == sha256_file(checkpoint / "model.safetensors")
    assert (begin["run"], begin["step"], begin["base_context"]) == ("rope", STEPS, L)
    assert begin["recipe_sha256"] == group_hash(first.config)
    assert yaml.safe_load((run.path / "config.yaml").read_text())["start"] == begin
    assert run.config.base_context == L
    assert first.meta["lineage"] == {
        "base_context": L,
        "train_context": L,
        "train_extension": "none",
        "start": None,
    }


def test_records_carry_the_lineage(runs: Path) -> None:
    record = ask(open_run(runs / "rope-ntk"), [LONG], "trained")["trained", LONG]
    assert (record.base_context, record.train_context, record.train_extension) == (L, LONG, "ntk(s=4)")
    assert (record.multiple, record.train_steps, record.train_tokens) == (4, MORE, MORE * 128)
    assert record.parent_sha256 == record_of(runs, "rope").config_sha256
    assert record.extension_params == {"trained": {"ntk": {"s": 4.0}}}


def test_multiples_refer_to_the_base_context(own: Path) -> None:
    """And the 1x control is at the base context, with what the run was trained with."""
    posx("eval", "rope-pi", "--length", "4x", "eval.target_context=128", "eval.max_targets=64", "--runs-dir", own)
    found = {(r.extension, r.length) for r in read_records(own, ["rope-pi"])}
    assert found == {("trained", L), ("trained", 4 * L)}


def test_a_finetune_is_scored_on_the_targets_of_the_run_that_it_started_from(own: Path) -> None:
    """PROTOCOL: stride and context of the targets follow L, which is the same for both; so the hash is too."""
    for name in ("rope", "rope-pi"):
        posx("eval", name, "--length", "4x", "eval.max_targets=64", "--runs-dir", own)
    found = read_records(own, ["rope", "rope-pi"])
    assert {(r.stride, r.target_context) for r in found} == {(1, 8 * L)}
    assert len({r.targets_sha256 for r in found}) == 1


def test_json_prints_the_records_of_a_finetune(own: Path) -> None:
    asked = ["--length", "1x", "eval.target_context=128", "eval.max_targets=64", "--json"]
    (record,) = json.loads(posx("eval", "rope-pi", *asked, "--runs-dir", own).stdout)
    assert (record["base_context"], record["train_context"], record["train_extension"]) == (L, LONG, "pi(s=4)")


def test_a_finetune_of_a_finetune(own: Path) -> None:
    """L stays; so does the extension with its scale, unless another is named."""
    again = finetune(own, "rope-pi", "again", "train.context=8x", "train.steps=1")
    assert again.meta["lineage"]["start"]["step"] == STEPS + MORE
    longer = finetune(own, "rope-pi", "longer", "--extension", "pi", "train.context=8x", "train.steps=1")
    other = finetune(own, "rope-pi", "other", "--extension", "ntk", "train.steps=1")
    dropped = finetune(own, "rope-pi", "dropped", "--extension", "none", "train.steps=1")
    lineages = [
        tuple(run.meta["lineage"][key] for key in ("base_context", "train_context", "train_extension"))
        for run in (again, longer, other, dropped)
    ]
    assert lineages == [(L, 128, "pi(s=4)"), (L, 128, "pi(s=8)"), (L, LONG, "ntk(s=4)"), (L, LONG, "none")]
    record = ask(again, [128], "trained")["trained", 128]
    assert gap(losses(record), by_host(again, record, as_neox(again, rope_type="linear", factor=4.0))) < EXACT
    assert record.parent_sha256 == group_hash(open_run(own / "rope-pi").config)


def test_a_first_run_elsewhere_is_found_by_its_path(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs.parent)
    run = finetune(tmp_path / "elsewhere", f"{runs.name}/rope", "ft", "train.steps=1")
    monkeypatch.chdir(tmp_path)
    assert Path(run.config.start.run).is_absolute()
    assert same_text(run.config.start.weights_sha256, open_run(runs / "rope"))


def same_text(digest: str, run: Run) -> bool:
    (folder,) = run.checkpoints.glob("step-*")
    return digest == sha256_file(folder / "model.safetensors")
