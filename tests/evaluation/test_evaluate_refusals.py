"""Tests of ``posx.evaluation.evaluate``: refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.corpora import corpus_of, sentence, tiny_config, trained, write_jsonl
from fixtures.evaluated_runs import (
    CONTEXT,
    SPLIT,
    Trained,
    ask,
    cell,
    fresh,
    learned,  # noqa: F401
    make,
    rope,  # noqa: F401
)
from posx.data.splitting import split_documents
from posx.errors import PosxError
from posx.results.records import read_record
from posx.runs.directory import Run


def test_changed_text_is_refused(tmp_path: Path) -> None:
    """The test split of another text may hold what the run was trained on."""
    own = make(tmp_path, "nope")
    path = Path(own.run.config.data.path or "")
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:-1], lines[-1].replace("No ", "Number ")]), "utf-8")
    with pytest.raises(PosxError, match="trained on"):
        ask(own.run, ["1x"], target_context=40)
    assert not list((own.run.path / "eval").glob("*.json"))


def test_learned_past_its_table_alone_is_an_error(learned: Trained, tmp_path: Path) -> None:
    own = fresh(learned, tmp_path)
    for _ in range(2):  # computed, and kept from before
        with pytest.raises(PosxError, match="interpolate") as caught:
            ask(own.run, ["2x"], target_context=40)
        assert caught.value.code == 2
    statuses = {r.length: r.status for r in map(read_record, (own.run.path / "eval").glob("*.json"))}
    assert statuses == {16: "ok", 32: "unsupported"}


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"lengths": ["2x"], "target_context": 20}, "target_context=20"),
        ({"lengths": ["4"], "stride": 5}, "eval.stride=5"),
        ({"lengths": ["1x"], "stride": 17}, "eval.stride=17"),
        ({"lengths": ["4x"], "extensions": ["interpolate"]}, "interpolate"),
        ({"lengths": ["500"]}, "eval.target_context="),
    ],
)
def test_what_cannot_be_is_refused(rope: Trained, tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    own = fresh(rope, tmp_path)
    with pytest.raises(PosxError) as caught:
        ask(own.run, **settings)
    assert sentence in str(caught.value)
    assert caught.value.code == 2
    assert not list((own.run.path / "eval").glob("*.json"))


def follow_the_advice(run: Run, lengths: list[str]) -> None:
    """Too few targets: where the sentence names a context, an evaluation with it goes through."""
    with pytest.raises(PosxError) as caught:
        ask(run, lengths)
    if "eval.target_context=" in caught.value.hint:
        advised = caught.value.hint.split("eval.target_context=")[1].split(".")[0]
        records = ask(run, [advised], target_context=int(advised))
        assert cell(records, int(advised)).n_targets >= 64
    else:
        assert "longer documents" in caught.value.hint


def test_the_advice_for_too_short_documents_can_be_followed(rope: Trained, tmp_path: Path) -> None:
    follow_the_advice(fresh(rope, tmp_path).run, ["500"])


def test_the_advice_holds_where_test_documents_are_shorter_than_the_context(tmp_path: Path) -> None:
    """Long documents to train on, and a test split where not even the 1x control has its targets."""
    short = [f"{n:04d} ab cd ef" for n in range(400)]
    texts = next(
        texts
        for n in range(1000, 1100)
        if (texts := [*short, sentence(60, n)])[-1] in split_documents(texts)[0]["train"]
    )
    config = tiny_config(
        write_jsonl(tmp_path / "a.jsonl", texts), "train.steps=1", f"data.cache_dir={tmp_path / 'cache'}"
    )
    assert corpus_of(config).splits[SPLIT].lengths.max() <= CONTEXT
    follow_the_advice(trained(tmp_path / "runs", "short", config), ["1x"])
