"""From a text to a table and a plot through the command line, also with a custom scheme."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
import yaml

from fixtures.commands import (
    refused,
    runs,  # noqa: F401
    text,  # noqa: F401 - a fixture
    there,  # noqa: F401
    tiny,  # noqa: F401
)
from fixtures.corpora import corpus_of
from fixtures.models import posx
from posx.config.schema import RunConfig
from posx.models.build import compose_run
from posx.runs.directory import create
from posx.training.loop import train
from posx.utils.console import Display

torch.set_num_threads(1)


def test_from_a_text_to_a_plot(there: Path, tiny: list[str]) -> None:
    result = posx("train", "--scheme", "rope", "--seed", 3, *tiny)
    assert result.stdout == ""
    (run,) = (there / "runs").iterdir()
    assert run.name == "rope-tiny-8-seed3"
    assert f"Next: posx eval {run.name}" in result.stderr
    stored = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    assert (stored["train"]["seed"], stored["scheme"]["name"], stored["train"]["steps"]) == (3, "rope", 3)
    assert sorted(p.name for p in (run / "checkpoints" / "step-000003").iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    assert (run / "tokenizer.json").is_file()
    meta = json.loads((run / "meta.json").read_text("utf-8"))
    assert meta["lineage"] == {"base_context": 8, "train_context": 8, "train_extension": "none", "start": None}

    result = posx("eval", "--extension", "none", "--extension", "pi")
    assert f"Using the newest run that supports this, {run.name}." in result.stderr
    assert "Next: posx table" in result.stderr
    records = [json.loads(p.read_text("utf-8")) for p in (run / "eval").glob("*.json")]
    assert {(r["extension"], r["length"]) for r in records} == {(e, n) for e in ("none", "pi") for n in (8, 16, 32)}
    assert len({r["targets_sha256"] for r in records}) == 1
    assert all(r["status"] == "ok" and r["seed"] == 3 and r["stride"] == 1 for r in records)

    posx("table", "-o", "t.md")
    lines = [line for line in (there / "t.md").read_text("utf-8").splitlines() if line.startswith("| rope")]
    assert [line.split(" | ")[1] for line in lines] == ["none", "pi"]
    cells = json.loads(posx("table", "--format", "json").stdout)
    by_cell = {(c["extension"], c["length"]): c["nats_per_token"] for c in cells}
    assert by_cell == {(r["extension"], r["length"]): pytest.approx(r["nats"] / r["n_targets"]) for r in records}

    result = posx("plot")
    written = [Path(line) for line in result.stdout.splitlines()]
    assert written == [Path("runs/perplexity.png"), Path("runs/perplexity.svg")]
    assert written[0].read_bytes()[:4] == b"\x89PNG"
    assert "trained at 8" in written[1].read_text("utf-8")


class Killed(BaseException):
    """Stands for the end of the process."""


class KillAt(Display):
    def update(self, done: int, note: str = "") -> None:
        if done == 4:
            raise Killed


def killed(folder: Path, config: RunConfig, name: str) -> None:
    """Train a run that ends in its fifth step, with a checkpoint of the third."""
    run, corpus = create(folder, name, config, False), corpus_of(config)
    with pytest.raises(Killed):
        train(run, corpus, KillAt(quiet=True))


def test_numbers_of_an_unfinished_run_are_replaced(there: Path, tiny: list[str]) -> None:
    """Evaluated at step 3, resumed, evaluated again: the table shows the finished weights only."""
    overrides = [*tiny, "train.steps=40", "train.checkpoint_every=3", "optim.lr=0.05"]
    killed(there / "runs", compose_run(overrides), "a")
    early = json.loads(posx("eval", "a", "--json").stdout)
    assert {note for r in early for note in r["notes"]} == {"step 3 of 40"}
    posx("train", *overrides, "--name", "a", "--resume")
    final = json.loads(posx("eval", "a", "--json").stdout)
    cells = json.loads(posx("table", "--format", "json").stdout)
    assert {c["length"]: c["nats_per_token"] for c in cells} == {
        r["length"]: pytest.approx(r["nats"] / r["n_targets"]) for r in final
    }
    assert next(c for c in cells if c["length"] == 8)["delta"] == 0
    assert "step 3 of 40" not in posx("table", "--format", "md").stdout


MINE = """
from posx.schemes.alibi import Alibi

class Mine(Alibi):
    formula = "mine"
"""


@pytest.fixture
def custom_scheme(there: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command that trains a run ``m`` with a scheme from a package outside posx."""
    name = f"minepos{random.randrange(10**9)}"
    (there / "site" / name).mkdir(parents=True)
    (there / "site" / name / "__init__.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(there / "site"))
    (there / "own" / "scheme").mkdir(parents=True)
    (there / "own" / "scheme" / "mine.yaml").write_text(f"_target_: {name}.Mine\n")
    return ["train", *tiny, "--scheme", "mine", "--config-dir", "own", "--name", "m"]


def test_a_custom_scheme_from_training_to_table(there: Path, custom_scheme: list[str]) -> None:
    assert "--trust" in refused(*custom_scheme)
    assert not (there / "runs").exists()
    posx(*custom_scheme, "--trust")
    assert "--trust" in refused("eval", "m")
    records = json.loads(posx("eval", "m", "--trust", "--length", "1x", "--json").stdout)
    assert [r["scheme"] for r in records] == ["mine"]
    assert "mine" in posx("table").stdout
    assert "mine" in [r["name"] for r in json.loads(posx("schemes", "--json", "--config-dir", "own", "--trust").stdout)]


def test_a_custom_scheme_resumes(there: Path, custom_scheme: list[str]) -> None:
    posx(*custom_scheme, "--trust")
    assert "is finished" in posx(*custom_scheme, "--trust", "--resume").stderr
