"""Tests of ``posx.api.evaluation``."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from pathlib import Path

import pytest
import torch

import posx
from fixtures.api_runs import (
    overrides,  # noqa: F401 - a fixture
    run,  # noqa: F401 - a fixture
    text,  # noqa: F401 - a fixture
)
from posx import api
from posx.results.records import read_records

torch.set_num_threads(1)


def test_records_equal_those_stored_in_the_run(run: posx.Run) -> None:
    records = posx.evaluate(run, [16, "2x"], ["none", "pi"], max_targets=64, device="cpu")
    assert [(r.extension, r.length) for r in records] == [("none", 16), ("none", 32), ("pi", 16), ("pi", 32)]
    assert all(r.status == "ok" and r.n_targets == 64 for r in records)
    stored = {r.path: r for r in read_records(run.path.parent, [run.name])}
    assert all(stored[r.path] == r for r in records)


def test_all_protocols_and_several_runs(run: posx.Run, overrides: list[str], tmp_path: Path) -> None:
    other = posx.train(posx.compose([*overrides, "train.context=32", "train.steps=1"]), tmp_path / "other")
    records = posx.evaluate([run, other], [32], protocol="all", max_targets=32, target_context=64)
    fixed = [r for r in records if r.protocol == "fixed-targets" and r.length == 32]
    assert {r.protocol for r in records} == {"fixed-targets", "non-overlapping", "stream"}
    assert [r.run for r in fixed] == ["rope", "other"]
    assert len({r.target_context for r in fixed}) == 1
    # No document is that long. The other protocols are computed first, and the error is raised without a callback too.
    events: list[posx.Progress] = []
    with pytest.raises(posx.PosxError, match="900"):
        posx.evaluate(other, [32], protocol="all", max_targets=32, target_context=900, progress=events.append)
    assert any("900" in event.message for event in events)


def test_unsupported_cells_are_an_error_only_if_all_are_unsupported(overrides: list[str], tmp_path: Path) -> None:
    learned = posx.train(posx.compose([*overrides, "train.steps=1"], scheme="learned"), tmp_path / "learned")
    with pytest.raises(posx.PosxError, match="positions end"):
        posx.evaluate(learned, ["2x"], max_targets=32)
    records = posx.evaluate(learned, ["1x", "2x"], max_targets=32)
    assert [r.status for r in records] == ["ok", "unsupported"]
    frame = posx.load_records(learned.path)
    assert list(frame["status"]) == ["ok", "unsupported"]
    assert math.isnan(frame["perplexity"][1])
    with pytest.raises(posx.PosxError, match="There is no setting"):
        posx.evaluate(learned, ["1x"], max_target=32)


@pytest.fixture(scope="module")
def runs_by_age(overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From the newest to the oldest: learned, alibi, rope; and an unfinished run."""
    folder = tmp_path_factory.mktemp("newest")
    for age, scheme in enumerate(("learned", "alibi", "rope")):
        run = posx.train(posx.compose([*overrides, "train.steps=1"], scheme=scheme), folder / scheme)
        for manifest in run.checkpoints.glob("step-*/manifest.json"):
            os.utime(manifest, (1_000_000 - age, 1_000_000 - age))
    (folder / "unfinished").mkdir()
    shutil.copy(folder / "rope" / "config.yaml", folder / "unfinished")
    return folder


@pytest.mark.parametrize(
    ("lengths", "extensions", "name"),
    [
        (["1x"], None, "learned"),
        (["2x"], None, "alibi"),  # learned positions end at 16
        (["1x", "2x"], None, "alibi"),
        (["2x"], ["interpolate"], "learned"),
        (["2x"], ["alibi-scale"], "alibi"),
        (["2x"], ["pi"], "rope"),
        (["2x"], ["none", "pi"], "rope"),
    ],
)
def test_the_newest_run_that_supports_the_request_is_planned(
    lengths: list[str], extensions: list[str] | None, name: str, runs_by_age: Path
) -> None:
    configs = api.compose_evaluations(lengths, extensions, "all", ["eval.max_targets=32"])
    plans = api.plan_newest(runs_by_age, configs)
    assert [plan.run.name for plan in plans] == [name] * 3  # a plan for each protocol


def test_if_no_run_supports_the_request_the_error_is_that_of_the_newest(runs_by_age: Path, tmp_path: Path) -> None:
    configs = api.compose_evaluations(["2x"], ["longrope(factors=nowhere.yaml)"], None, [])
    with pytest.raises(posx.PosxError) as newest:
        api.plan_evaluations([api.find_run(runs_by_age, "learned")], configs)
    with pytest.raises(posx.PosxError) as caught:
        api.plan_newest(runs_by_age, configs)
    assert str(caught.value) == str(newest.value)
    with pytest.raises(posx.PosxError, match="There is no finished run"):
        api.plan_newest(tmp_path, configs)


def test_a_record_is_reproduced(run: posx.Run) -> None:
    record = posx.evaluate(run, ["2x"], ["pi"], max_targets=64)[-1]
    repeated, gap = api.reproduce(record)
    assert repeated.nats == record.nats
    assert gap == 0
    retrained, gap = api.reproduce(record, from_scratch=True)
    assert retrained.nats == pytest.approx(record.nats)
    commands = api.reproduction_commands(record, run.path.parent)
    assert [line.split()[1] for line in [*commands.train, commands.evaluate]] == ["train", "eval"]
    with pytest.raises(posx.PosxError):
        api.reproduce(dataclasses.replace(record, nats=record.nats + 100))


def test_recommend_ranks_the_supported_extensions(run: posx.Run) -> None:
    output = api.recommend(run, "2x", {"eval.max_targets": 32}, name="my run")
    means = [row["nats_per_token"] for row in output.values]
    assert means == sorted(means)
    assert output.values[0]["behind"] == 0
    assert all(row["behind"] == pytest.approx(row["nats_per_token"] - means[0]) for row in output.values)
    assert all("'my run'" in row["line"] and row["split"] == "validation" for row in output.values)
    extensions = {row["extension"].partition("(")[0] for row in output.values}
    assert {"none", "pi", "ntk", "yarn"} <= extensions
    assert not {"alibi-scale", "interpolate"} & extensions


def test_searched_factors_are_an_extension(run: posx.Run, tmp_path: Path) -> None:
    settings = {"eval.max_targets": 32, "eval.target_context": 60}
    search = api.search_longrope(run, "2x", settings, evaluations=16)
    output = api.save_search(search, tmp_path / "factors.yaml")
    assert output.values["file"] == str(tmp_path / "factors.yaml")
    extension = f"longrope(factors={tmp_path / 'factors.yaml'})"
    record = posx.evaluate(run, ["2x"], [extension], max_targets=32)[-1]
    assert record.status == "ok"
    with pytest.raises(posx.PosxError, match="cannot be written"):
        api.save_search(search, tmp_path / "factors.yaml" / "below.yaml")
