"""Tests of ``posx.sweeps.plan``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from fixtures.corpora import child_environment
from fixtures.sweep_files import (
    LONG,
    planned,
    sweep_file,
    text,  # noqa: F401
)
from posx.cli.app import app
from posx.config.schema import EvalConfig
from posx.sweeps.plan import JobPlan

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def children_import_this_posx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are processes of their own."""
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])


def evals(jobs: list[JobPlan]) -> list[EvalConfig]:
    """Every evaluation of these jobs; each has one at least."""
    assert all(job.evals for job in jobs)
    return [one for job in jobs for one in job.evals]


def test_a_sweep_is_every_row_with_every_seed(tmp_path: Path, text: Path) -> None:
    base = {"scheme": "rope", "label": "rope-500", "overrides": ["scheme.base=500"]}
    jobs = planned(sweep_file(tmp_path / "s.yaml", text, schemes=["rope", base, LONG]))
    rows = [(j.config.label, j.config.scheme["name"], j.config.train.seed, j.config.train.context) for j in jobs]
    assert rows == [
        (label, scheme, seed, context)
        for label, scheme, context in (("rope", "rope", 8), ("rope-500", "rope", 8), ("alibi-long", "alibi", 16))
        for seed in (0, 1)
    ]
    assert len({job.name for job in jobs}) == 6
    assert all(job.name.startswith(f"{job.config.label}-seed{job.config.train.seed}-") for job in jobs)
    assert [job.config.scheme["base"] for job in jobs[:4]] == [10000, 10000, 500, 500]
    assert [job.config.train.log_every for job in jobs] == [1, 1, 1, 1, 2, 2]  # a row beats what all share
    assert all(len(job.evals) == 1 and job.after is None for job in jobs)
    assert all(one.lengths == ["1x", "2x"] and one.max_targets == 128 for one in evals(jobs))
    assert {one.protocol for one in evals(jobs)} == {"fixed-targets"}


def test_extensions_go_by_label_and_else_by_scheme(tmp_path: Path, text: Path) -> None:
    rows = ["rope", {"scheme": "rope", "label": "other"}, LONG, "nope"]
    extensions = {"rope": ["none", "pi"], "other": ["ntk"], "alibi": ["window"]}
    jobs = planned(sweep_file(tmp_path / "s.yaml", text, schemes=rows, seeds=[0], extensions=extensions))
    assert {j.config.label: [one.extensions for one in j.evals] for j in jobs} == {
        "rope": [["none", "pi"]],
        "other": [["ntk"]],
        "alibi-long": [["window"]],
        "nope": [["trained"]],  # with nothing: records say "none", as every run from scratch has it
    }


def test_stride_and_target_context_are_one_for_all(tmp_path: Path, text: Path) -> None:
    """L = 8 and 16: S from the smallest, the context from the largest."""
    jobs = planned(sweep_file(tmp_path / "s.yaml", text, seeds=[0]))
    assert {(one.stride, one.target_context) for one in evals(jobs)} == {(1, 128)}
    jobs = planned(
        sweep_file(tmp_path / "t.yaml", text, seeds=[0], schemes=["rope"], more=["train.context=16"], lengths=["150"])
    )
    assert {(one.stride, one.target_context) for one in evals(jobs)} == {(1, 150)}
    jobs = planned(sweep_file(tmp_path / "u.yaml", text, seeds=[0], more=["eval.stride=4", "eval.target_context=64"]))
    assert {(one.stride, one.target_context) for one in evals(jobs)} == {(4, 64)}


def test_a_name_is_what_a_job_computes(tmp_path: Path, text: Path) -> None:
    def names(*more: str, **settings: Any) -> list[str]:
        path = sweep_file(tmp_path / "s.yaml", text, schemes=["rope"], seeds=[0], more=list(more), **settings)
        return [job.name for job in planned(path)]

    first = names()
    assert names() == first
    assert names("train.threads=1", "train.log_every=2") == first  # change no result
    assert names("eval.stride=2", lengths=["1x"]) == first  # of the evaluation
    assert set(names("optim.lr=0.01")).isdisjoint(first)
    assert set(names("train.steps=4")).isdisjoint(first)
    assert set(names("tokenizer.vocab_size=280")).isdisjoint(first)
    changed = text.with_name("b.jsonl")
    changed.write_text(text.read_text("utf-8").replace("cat", "dog"), "utf-8")
    shutil.copy(text, tmp_path / "kept.jsonl")
    try:
        shutil.copy(changed, text)
        assert set(names()).isdisjoint(first)
    finally:
        shutil.copy(tmp_path / "kept.jsonl", text)


def test_overrides_of_the_command_line_beat_the_file(tmp_path: Path, text: Path) -> None:
    path = sweep_file(tmp_path / "s.yaml", text, seeds=[0])
    assert {j.config.train.steps for j in planned(path, "train.steps=2")} == {2}
    assert {one.max_targets for one in evals(planned(path, "eval.max_targets=64"))} == {64}


@pytest.mark.parametrize(
    ("override", "part", "wanted"),
    [
        ("eval.lengths=[1x]", "lengths", ["1x"]),
        ("eval.extensions=[none]", "extensions", ["none"]),
        ("train.seed=7", "seed", 7),
    ],
)
def test_no_override_is_dropped_in_silence(
    tmp_path: Path, text: Path, override: str, part: str, wanted: object
) -> None:
    """What the file says elsewhere too must give way, or be refused; nothing else is what was asked."""
    path = sweep_file(tmp_path / "s.yaml", text, schemes=["rope"], seeds=[0])
    result = CliRunner().invoke(app, ["sweep", str(path), override, "--dry-run", "--runs-dir", str(tmp_path / "runs")])
    if result.exit_code == 2 and "Error: " in result.stderr:
        return
    for job in planned(path, override):
        for one in evals([job]):
            got = {"lengths": one.lengths, "extensions": one.extensions, "seed": job.config.train.seed}
            assert got[part] == wanted


def test_a_label_may_hold_any_sign(tmp_path: Path, text: Path) -> None:
    for label in ("a b/c", "50 % (b=1), {c}", "it's", "_x", "500", "λ"):
        rows = [{"scheme": "rope", "label": label}]
        (job,) = planned(sweep_file(tmp_path / "s.yaml", text, schemes=rows, seeds=[0], extensions={}))
        assert job.config.label == label
