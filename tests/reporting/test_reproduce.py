"""Tests of ``posx.reporting.reproduce``."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.reproduced_runs import (
    LABEL,
    SAME,
    STEPS,
    UNUSUAL,
    cell,
    printed,
    runs,  # noqa: F401
    shell,  # noqa: F401
    text,  # noqa: F401 - a fixture
    values,
)

torch.set_num_threads(1)


def test_the_commands_of_a_run_reproduce_its_numbers(runs: Path, tmp_path: Path, shell: Callable[..., Any]) -> None:
    """Unusual settings, two protocols: trained with the printed command, evaluated with each printed command."""
    cells = [
        cell(runs, "rope", extension="ntk(s=3)+window(w=8)", length=40),
        cell(runs, "rope", protocol="non-overlapping", extension="pi"),
    ]
    lines = [printed(runs, one) for one in cells]
    assert all(len(found) == 2 for found in lines)
    assert lines[0][0] == lines[1][0]
    assert "--seed" in lines[0][0] or "train.seed=3" in lines[0][0]
    where = shlex.quote(str(runs))
    assert all(line.endswith(f"--runs-dir {where}") for found in lines for line in found)
    new_runs = tmp_path / "new runs"
    together = [lines[0][0], lines[0][1], lines[1][1]]
    shell([line.replace(where, shlex.quote(str(new_runs))) for line in together], tmp_path)
    assert [p.name for p in new_runs.iterdir()] == ["rope"]
    stored = (runs / "rope" / "config.yaml").read_text("utf-8")
    assert (new_runs / "rope" / "config.yaml").read_text("utf-8") == stored
    for one in cells:
        made = cell(new_runs, "rope", extension=one.extension, protocol=one.protocol, length=40)
        assert values(made)[0] == pytest.approx(values(one)[0], abs=SAME)
        assert values(made)[1] == values(one)[1]
        assert made.n_targets == one.n_targets
        assert made.label == LABEL


def test_the_commands_of_a_fine_tuned_run_reproduce_its_number(
    runs: Path, tmp_path: Path, shell: Callable[..., Any]
) -> None:
    """Two training runs in order, in the default runs directory."""
    one = cell(runs, "tuned", extension="trained", length=48)
    lines = printed(runs, one)
    assert [line.split()[:4] for line in lines[:2]] == [["posx", "train", "--name", n] for n in ("rope", "tuned")]
    assert "--from rope" in lines[1]
    assert len(lines) == 3
    where = f" --runs-dir {shlex.quote(str(runs))}"
    shell([line.removesuffix(where) for line in lines], tmp_path)
    made = cell(tmp_path / "runs", "tuned", extension="trained", length=48)
    assert values(made)[0] == pytest.approx(values(one)[0], abs=SAME)
    assert values(made)[1] == values(one)[1]
    assert (made.label, made.train_extension, made.base_context) == ("a 'tuned' one", "pi(s=3)", 16)
    assert made.config_sha256 == one.config_sha256


def test_commands_contain_only_the_settings_that_differ(runs: Path) -> None:
    train, evaluate = map(shlex.split, printed(runs, cell(runs, "rope", extension="none", length=40)))
    set_ = dict(part.partition("=")[::2] for part in train if "=" in part)
    for override in (*UNUSUAL, f"train.steps={STEPS}", "train.seed=3", "scheme=rope", "data=text"):
        key, _, value = override.partition("=")
        assert float(set_[key]) == float(value) if value.replace(".", "").isdigit() else set_[key] == value, override
    assert "model.norm_eps" not in set_
    assert "start.run" not in set_
    assert not [key for key in set_ if key.endswith("_target_")]
    for part in ("eval.stride=2", "eval.target_context=90", "eval.max_targets=100", "eval.seed=7", "eval.split=test"):
        assert part in evaluate
    cut = shlex.split(printed(runs, cell(runs, "rope", protocol="non-overlapping", extension="pi"))[1])
    assert cut[cut.index("--protocol") + 1] == "non-overlapping"
    assert not [part for part in cut if part.startswith(("eval.stride", "eval.target_context"))]
