"""Tests of ``posx.cli.doctor``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from fixtures.commands import (
    text,  # noqa: F401
    there,  # noqa: F401
)
from fixtures.models import posx

torch.set_num_threads(1)


def test_doctor_describes_this_machine(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posx.analysis.machine.hub_reachable", lambda seconds: False)
    rows = json.loads(posx("doctor", "--json").stdout)
    assert torch.__version__ in json.dumps(rows)
    assert os.environ["POSX_CACHE"] in json.dumps(rows)
    text = posx("doctor").stdout.lower()
    for word in ("bf16", "compiler", "thread", "gpu", "cache", "hub"):
        assert word in text
