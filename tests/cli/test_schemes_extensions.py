"""Tests of ``posx.cli.schemes`` and ``posx.cli.extensions``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fixtures.commands import (
    text,  # noqa: F401
    there,  # noqa: F401
)
from fixtures.models import posx

torch.set_num_threads(1)


def test_the_schemes_in_json(there: Path) -> None:
    names = [row["name"] for row in json.loads(posx("schemes", "--json").stdout)]
    assert set(names) >= {"nope", "sinusoidal", "learned", "rope", "alibi", "t5"}
    rows = {row["name"]: row for row in json.loads(posx("schemes", *names, "--json").stdout)}
    assert rows["learned"]["parameters"] == 64 * 128
    assert [rows[name]["parameters"] for name in ("nope", "sinusoidal", "rope", "alibi")] == [0, 0, 0, 0]
    assert rows["t5"]["parameters"] == 32 * 4
    assert rows["rope"]["extensions"] == [
        "abf", "by-parts", "dual-chunk", "dynamic-ntk", "leaky-rerope", "llama3", "lm-infinite", "log-n", "longrope",
        "ntk", "pi", "rerope", "resonance", "self-extend", "sinks", "temperature", "window", "yarn",
    ]  # fmt: skip
    assert rows["learned"]["extensions"] == ["interpolate", "lm-infinite", "log-n", "sinks", "temperature", "window"]
    assert all(row["formula"] for row in rows.values())
    assert rows["alibi"]["cost"] == "one addition per logit"
    assert rows["cable"]["cost"] == "as forgetting"
    assert rows["sinusoidal-concat"]["cost"] == "one table [T, width] per forward pass"
    assert rows["shape"]["cost"] == "as the inner scheme; a learned table has K + L rows"
    assert all(len(row["cost"]) > 3 and "\n" not in row["cost"] for row in rows.values())


def test_the_extensions_in_json(there: Path) -> None:
    rows = {row["name"]: row for row in json.loads(posx("extensions", "--json").stdout)}
    assert rows.keys() >= {"none", "pi", "ntk", "interpolate", "window"}
    assert all(row["formula"] for row in rows.values())


@pytest.mark.parametrize("command", ["schemes", "extensions"])
def test_a_list_for_people_names_them_all(command: str) -> None:
    names = [row["name"] for row in json.loads(posx(command, "--json").stdout)]
    text = posx(command).stdout
    assert [name for name in names if name not in text] == []
