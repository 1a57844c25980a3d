"""Tests of ``posx.api.inspection``, and that no function of ``posx.api`` prints."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console

import posx
from fixtures.api_runs import (
    overrides,  # noqa: F401 - a fixture
    run,  # noqa: F401 - a fixture
    text,  # noqa: F401 - a fixture
)
from posx import api

torch.set_num_threads(1)


def printed(output: api.Output) -> str:
    """What a command prints of an output on a terminal without colors."""
    stream = io.StringIO()
    output.show(Console(file=stream, width=200))
    return stream.getvalue()


def test_schemes_and_extensions() -> None:
    by_name = {row["name"]: row for row in api.schemes().values}
    assert {"rope", "alibi", "nope"} <= by_name.keys()
    assert "arXiv" in by_name["rope"]["paper"]
    (rope,) = api.schemes(["rope"]).values
    assert rope["formula"] == by_name["rope"]["formula"]
    assert "pi" in {row["name"] for row in api.extensions().values}
    assert [row["name"] for row in api.extensions(["pi", "ntk"]).values] == ["pi", "ntk"]
    assert "rope" in printed(api.extensions(["pi"], matrix=True))
    with pytest.raises(posx.PosxError, match="Did you mean rope"):
        api.schemes(["rop"])


def test_a_custom_catalog_is_listed(tmp_path: Path) -> None:
    (tmp_path / "scheme").mkdir()
    (tmp_path / "scheme" / "fast-rope.yaml").write_text("_target_: posx.schemes.rope.Rope\nbase: 500\n", "utf-8")
    catalog = posx.Catalog(str(tmp_path))
    assert "fast-rope" in {row["name"] for row in api.schemes(catalog=catalog).values}
    assert posx.compose(scheme="fast-rope", catalog=catalog).scheme["base"] == 500


def test_a_config_as_yaml_composes_to_the_same_config() -> None:
    documents = api.config_text("rope", ["train.steps=7", "eval.stride=9"])
    values = yaml.safe_load(documents)
    assert (values["scheme"]["name"], values["train"]["steps"], values["eval"]["stride"]) == ("rope", 7, 9)


def test_show_writes_a_picture_and_measures(tmp_path: Path) -> None:
    output = api.show("rope", {"train.context": 16}, length=32, path=str(tmp_path / "rope.svg"))
    assert output.values["files"] == [str(tmp_path / "rope.svg")]
    assert (output.values["context"], output.values["length"]) == (16, 32)
    assert (tmp_path / "rope.svg").read_text("utf-8").startswith("<?xml")
    assert printed(output).splitlines()[-1] == str(tmp_path / "rope.svg")


def test_explain() -> None:
    output = api.explain(["rope", "alibi"], 4096, 2048, extension="none")
    assert [(row["name"], row["train_length"], row["length"]) for row in output.values] == [
        ("rope", 2048, 4096),
        ("alibi", 2048, 4096),
    ]
    assert all(line in printed(output) for row in output.values for line in row["commands"])
    by_name = {row["name"]: row for row in api.explain_permutation(["nope", "rope"]).values}
    assert by_name["nope"]["unmasked"] < 1e-4 < by_name["rope"]["unmasked"]  # nope sees a set of words


def test_machine_names_the_processor() -> None:
    output = api.machine()
    assert "processor" in output.values
    assert "processor" in printed(output)


def test_verify_reports_each_check_to_the_callback() -> None:
    events: list[posx.Progress] = []
    output = api.verify(["nope"], progress=events.append)
    assert not output.failed
    assert {row["name"] for row in output.values} == {"nope"}
    assert (events[0].title, events[0].done) == ("Verifying", 0)
    assert events[-1].done == events[-1].total > 0


SILENT: dict[str, Callable[[posx.Run, posx.Table], object]] = {
    "schemes": lambda run, table: (api.schemes(), api.schemes(["rope"])),
    "extensions": lambda run, table: (api.extensions(), api.extensions(["pi"]), api.extensions(matrix=True)),
    "machine": lambda run, table: api.machine(),
    "config_text": lambda run, table: api.config_text("rope"),
    "show": lambda run, table: api.show("rope", ["train.context=16"], length=32),
    "explain": lambda run, table: (api.explain(["rope"], "4x", 2048), api.explain_permutation(["nope"])),
    "verify": lambda run, table: api.verify(["nope"]),
    "estimate": lambda run, table: api.estimate(run.config),
    "finetune": lambda run, table: posx.finetune(run, {"train.steps": 1}, "tuned"),
    "evaluate": lambda run, table: posx.evaluate(run, ["2x"], max_targets=32),
    "recommend": lambda run, table: api.recommend(run, "2x", ["eval.max_targets=32"]),
    "compare": lambda run, table: api.compare("rope:pi", "rope:none", runs_dir=run.path.parent),
    "table": lambda run, table: (table.to_markdown(), table.render("json"), table.render("latex"), table.to_pandas()),
    "load": lambda run, table: (posx.load_run(run.path), posx.load_records(run.path), api.read_table(run.path.parent)),
    "plot": lambda run, table: api.plot(table, "length", "figure"),
    "report": lambda run, table: api.report(table, "report.html"),
    "bundle": lambda run, table: api.bundle("packed", [run.name], runs_dir=run.path.parent),
    "reproduce": lambda run, table: api.reproduce(table.records[0]),
    "write_results": lambda run, table: api.write_results(table, "results"),
}


@pytest.mark.parametrize("name", SILENT)
def test_nothing_is_printed(
    name: str,
    run: posx.Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    table = posx.Table(posx.evaluate(run, ["1x", "2x"], ["none", "pi"], max_targets=64))
    SILENT[name](run, table)
    assert capfd.readouterr() == ("", "")
