"""Tests of ``posx.loggers.jsonl``."""

from __future__ import annotations

import json
from pathlib import Path

from posx.config.schema import RunConfig
from posx.loggers.jsonl import JsonLines
from posx.runs.directory import Run


def test_a_row_is_written_at_once_as_a_line(tmp_path: Path) -> None:
    logger = JsonLines(Run(tmp_path, RunConfig()))
    logger.log({"tokens": 64, "lr": 0.5, "grad_norm": None}, 1)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "tokens": 64, "lr": 0.5, "grad_norm": null}\n'
    logger.close()


def test_lines_after_the_resume_point_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "lr": 0.1}) + "\n" for step in (1, 2, 3)]
    path.write_text("".join(lines) + '{"step": 4, "l')  # cut off by a kill
    logger = JsonLines(Run(tmp_path, RunConfig()), 2)
    assert path.read_text() == "".join(lines[:2])
    logger.log({"lr": 0.2}, 3)
    logger.close()
    assert path.read_text() == "".join(lines[:2]) + '{"step": 3, "lr": 0.2}\n'


def test_a_new_run_starts_with_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    JsonLines(Run(tmp_path, RunConfig())).close()
    assert (tmp_path / "metrics.jsonl").read_text() == ""
