"""Schemes and extensions that are passed as classes to the functions of ``posx.api``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

import posx
from fixtures.api_runs import (
    mine,  # noqa: F401 - a fixture
    overrides,  # noqa: F401 - a fixture
    run,  # noqa: F401 - a fixture
    text,  # noqa: F401 - a fixture
)
from fixtures.corpora import child_environment

torch.set_num_threads(1)


def test_a_scheme_without_yaml(mine: ModuleType, overrides: list[str], tmp_path: Path) -> None:
    config = posx.compose(overrides, scheme=mine.MyRoot, settings={"slope": 0.25})
    assert config.scheme == {"name": "my-root", "_target_": "mine.MyRoot", "slope": 0.25}
    run = posx.train(config, tmp_path / "runs" / "mine")
    assert yaml.safe_load((run.path / "config.yaml").read_text("utf-8"))["scheme"] == config.scheme
    records = posx.evaluate(posx.load_run(run.path), ["2x"], max_targets=32)
    assert [(r.scheme, r.length, r.status) for r in records] == [("my-root", 16, "ok"), ("my-root", 32, "ok")]

    command = [sys.executable, "-m", "posx", "eval", str(run.path), "--length", "2x", "--json", "eval.max_targets=32"]
    environment = child_environment()
    environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    refused = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert refused.returncode == 2
    assert "mine.MyRoot is not part of posx" in refused.stderr
    done = subprocess.run([*command, "--trust"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert [cell["nats"] for cell in json.loads(done.stdout)] == [r.nats for r in records]


def test_only_classes_that_were_passed_are_trusted(mine: ModuleType, overrides: list[str]) -> None:
    texts = [*overrides, "+scheme._target_=mine.MyRoot"]
    with pytest.raises(posx.PosxError, match="not part of posx"):
        posx.compose(texts)
    posx.compose(overrides, scheme=mine.MyRoot)
    with pytest.raises(posx.PosxError, match=r"mine\.Alibi is not part of posx"):
        posx.compose([*overrides, "+scheme._target_=mine.Alibi"])


def test_an_extension_without_yaml(mine: ModuleType, run: posx.Run) -> None:
    with pytest.raises(posx.PosxError, match=r"There is no extension 'mine\.Shrink'"):
        posx.evaluate(run, ["2x"], ["mine.Shrink"], max_targets=64)
    instance = mine.Shrink(mine.Shrink.Config(s=4))
    records = posx.evaluate(run, ["2x"], ["pi", mine.Shrink, "pi(s=4)", instance], max_targets=64)
    control, pi, shrunk, four, shrunk_four = records
    assert (control.extension, control.length) == ("none", 16)
    assert [r.extension for r in records[1:]] == ["pi", "mine.Shrink", "pi(s=4)", "mine.Shrink(s=4)"]
    assert pi.nats == shrunk.nats != four.nats == shrunk_four.nats
    tuned = posx.compose_finetune(run, {"train.context": "2x", "train.extension": mine.Shrink})
    assert tuned.train.extension == "mine.Shrink(s=2)"


def test_classes_of_posx_are_stored_by_name() -> None:
    from posx.extensions.pi import PI
    from posx.schemes.alibi import Alibi

    config = posx.compose(["train.context=16"], scheme=Alibi)
    assert config.scheme == posx.compose(["train.context=16"], scheme="alibi").scheme
    assert posx.compose({"train.extension": PI}, scheme="rope").train.extension.startswith("pi")


def test_classes_that_cannot_be_used(mine: ModuleType, overrides: list[str]) -> None:
    with pytest.raises(posx.PosxError, match="Define it at the top level"):
        posx.compose(overrides, scheme=mine.local())
    with pytest.raises(posx.PosxError, match="A scheme named alibi exists"):
        posx.compose(overrides, scheme=mine.Alibi)
    with pytest.raises(posx.PosxError, match="is not a posx scheme"):
        posx.compose(overrides, scheme=mine.Shrink)
    with pytest.raises(posx.PosxError, match="Give the settings of a class in settings"):
        posx.compose([*overrides, "scheme.slope=1"], scheme=mine.MyRoot)


ANOTHER_PROCESS = """
import sys
import posx

trust = sys.argv[2] == "trust"
try:
    run = posx.load_run(sys.argv[1])
    catalog = posx.Catalog(trust=trust)
    print(posx.evaluate(run, ["2x"], max_targets=32, catalog=catalog)[-1].nats)
except posx.PosxError as error:
    print(error)
"""


def test_another_process_requires_trust(mine: ModuleType, overrides: list[str], tmp_path: Path) -> None:
    run = posx.train(posx.compose(overrides, scheme=mine.MyRoot), tmp_path / "runs" / "mine")
    (record,) = [r for r in posx.evaluate(run, ["2x"], max_targets=32) if r.length == 32]
    environment = child_environment()
    environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    refused, trusted = (
        subprocess.run(
            [sys.executable, "-c", ANOTHER_PROCESS, str(run.path), word],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        for word in ("no", "trust")
    )
    assert "mine.MyRoot is not part of posx" in refused.stdout
    assert trusted.stdout.strip() == str(record.nats)
    assert refused.stderr == trusted.stderr == ""
