"""jsonl: ``metrics.jsonl`` in the run directory, one line per row."""

from __future__ import annotations

import json
from typing import Any

from posx.runs.directory import Run, metrics
from posx.utils.files import write_text


class JsonLines:
    """Appends to ``metrics.jsonl``. If training resumes at ``step``, later lines are removed first."""

    def __init__(self, run: Run, step: int = 0):
        path = run.path / "metrics.jsonl"
        rows = [row for row in metrics(run) if row["step"] <= step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        self.file = path.open("a", encoding="utf-8")

    def log(self, metrics: dict[str, Any], step: int) -> None:
        self.file.write(json.dumps({"step": step, **metrics}) + "\n")
        self.file.flush()  # so that a run can be followed while it trains

    def close(self) -> None:
        self.file.close()
