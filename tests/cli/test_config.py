"""Tests of ``posx.cli.config``."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from typer.testing import CliRunner

from fixtures.commands import (
    text,  # noqa: F401
    there,  # noqa: F401
)
from fixtures.models import posx
from posx.cli.app import app

torch.set_num_threads(1)


def test_a_path_without_data_text_is_not_silently_another_corpus(there: Path, text: Path) -> None:
    """``posx train data.path=mine.txt`` would train on the embedded corpus, and nothing would say so."""
    result = CliRunner().invoke(app, ["config", f"data.path={text}"])
    assert result.exit_code == 2 or yaml.safe_load(result.stdout.split("\neval:")[0])["data"]["source"] == "text"


def test_the_resolved_config_is_yaml_with_the_overrides(there: Path) -> None:
    shown = yaml.safe_load(posx("config", "--scheme", "learned", "train.steps=7", "eval.max_targets=99").stdout)
    assert shown["scheme"] == {
        "name": "learned",
        "_target_": "posx.schemes.learned.Learned",
        "combine": "add",
        "width": None,
        "scale_tokens": False,
    }
    assert (shown["train"]["steps"], shown["eval"]["max_targets"], shown["model"]["d_model"]) == (7, 99, 128)
