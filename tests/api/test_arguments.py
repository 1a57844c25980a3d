"""Tests of ``posx.api.arguments``: arguments of a wrong type raise a PosxError with a hint, never another error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import posx
from fixtures.corpora import TINY, sentence, write_jsonl
from posx import api
from posx.extensions.pi import PI

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> posx.Run:
    folder = tmp_path_factory.mktemp("runs")
    corpus = write_jsonl(folder / "a.jsonl", [sentence(120, n) for n in range(24)])
    return posx.train(posx.compose(["data=text", f"data.path={corpus}", *TINY, "train.steps=1"]), folder / "rope")


Call = Callable[[Any], object]  # of a run

CASES: list[tuple[Call, str]] = [
    (lambda run: posx.compose(3), "list of strings or a mapping"),
    (lambda run: posx.compose([3]), "list of strings or a mapping"),
    (lambda run: posx.compose(None), "list of strings or a mapping"),
    (lambda run: posx.compose(scheme=3), "scheme must be a name or a class, not 3"),
    (lambda run: posx.compose(scheme=PI), "PI is not a posx scheme"),
    (lambda run: posx.compose(scheme="rope", settings="base=3"), "settings must be a mapping"),
    (lambda run: posx.train(None), "Expected a RunConfig, not None. Compose one"),
    (lambda run: posx.train({"train.steps": 3}), "Expected a RunConfig, not an object of class dict"),
    (lambda run: posx.train(run), "Expected a RunConfig, not an object of class Run"),
    (lambda run: posx.train(run.config, 3), "Expected a path, not 3"),
    (lambda run: posx.train(run.config, "new", progress=3), "progress must be a function, not 3"),
    (lambda run: posx.finetune(run.path), "Load it: posx.load_run"),
    (lambda run: posx.finetune(run, None), "list of strings or a mapping"),
    (lambda run: posx.compose_finetune("rope"), r"Load it: posx.load_run\('rope'\)"),
    (lambda run: posx.evaluate("rope"), r"Expected a Run, not 'rope'. Load it"),
    (lambda run: posx.evaluate(None), "Expected a Run, not None"),
    (lambda run: posx.evaluate([run, "rope"], ["2x"]), "Expected a Run, not 'rope'"),
    (lambda run: posx.evaluate([], ["2x"]), "No run given"),
    (lambda run: posx.evaluate(run, 16), r"lengths must be a list, not 16. Example: lengths=\[3000"),
    (lambda run: posx.evaluate(run, "2x"), "lengths must be a list, not '2x'"),
    (lambda run: posx.evaluate(run, [None]), "'None' is not a valid length"),
    (lambda run: posx.evaluate(run, ["2x"], "pi"), "extensions must be a list, not 'pi'"),
    (lambda run: posx.evaluate(run, ["2x"], PI), "extensions must be a list, not the class PI"),
    (lambda run: posx.evaluate(run, ["2x"], [3]), "int is not a posx extension"),
    (lambda run: posx.evaluate(run, ["2x"], progress=3), "progress must be a function"),
    (lambda run: posx.sweep("quick", "train.steps=3"), "is a string"),
    (lambda run: posx.sweep("quick", workers="2"), "workers must be a positive whole number"),
    (lambda run: posx.sweep("quick", workers=0), "workers must be a positive whole number"),
    (lambda run: posx.sweep("quick", bundles="results/seeds"), "bundles must be a list"),
    (lambda run: posx.sweep(None), "Expected a path, not None"),
    (lambda run: posx.load_run(run), "Expected a path, not an object of class Run. Pass its path"),
    (lambda run: posx.load_run(run.path / "config.yaml"), "No run found"),
    (lambda run: posx.load_records(None), "Expected a path, not None"),
    (lambda run: posx.load_records(run), "Pass its path"),
    (lambda run: posx.Table(run), "records must be a list"),
    (lambda run: posx.Table([run]), "A table is made of records, not an object of class Run"),
    (lambda run: posx.Table([]).to_markdown(), "This table has no records"),
    (lambda run: posx.Table([]).to_pandas(), "This table has no records"),
    (lambda run: api.report(posx.Table([]), "report.html"), "This table has no records"),
    (lambda run: api.compare("rope", "nope", "2x"), "lengths must be a list"),
    (lambda run: api.recommend("rope", "2x"), "Expected a Run"),
    (lambda run: api.search_longrope(run.path, "2x"), "Expected a Run"),
    (lambda run: api.schemes("rope"), "names must be a list"),
    (lambda run: api.extensions("pi"), "names must be a list"),
    (lambda run: api.explain("rope", "4x", 2048), "schemes must be a list"),
    (lambda run: api.explain_permutation("rope"), "schemes must be a list"),
    (lambda run: api.verify("rope"), "names must be a list"),
    (lambda run: api.bundle("packed", "rope"), "names must be a list"),
    (lambda run: api.read_table("runs", "rope"), "runs must be a list"),
]


@pytest.mark.parametrize(("call", "message"), CASES, ids=[message for _, message in CASES])
def test_arguments_of_a_wrong_type_raise_posx_error(
    call: Call, message: str, run: posx.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(posx.PosxError, match=message) as caught:
        call(run)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_numbers_and_mappings_are_accepted_wherever_texts_are(
    run: posx.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert api.explain(["rope"], 3000, 2048).values == api.explain(["rope"], "3000", "2048").values
    ranked = api.recommend(run, 32, {"eval.max_targets": 32}).values
    assert ranked == api.recommend(run, "2x", ["eval.max_targets=32"]).values
    assert all(row["n_targets"] == 32 for row in ranked)


def test_an_empty_folder_becomes_the_run(run: posx.Run, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert posx.train(run.config, tmp_path / "new").finished
