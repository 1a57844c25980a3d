"""posx table of many records works without torch."""

from __future__ import annotations

from pathlib import Path

from fixtures.corpora import python
from fixtures.stored_records import record, stored

HEAVY = """
import sys
from typer.testing import CliRunner
from posx.cli.app import app

result = CliRunner().invoke(app, sys.argv[1:])
assert result.exit_code == 0, result.stderr
print(result.stdout.count('"nats_per_token"'))
print(sorted({"torch", "hydra", "matplotlib", "datasets", "transformers"} & {m.split(".")[0] for m in sys.modules}))
"""


def test_two_hundred_records_become_a_table_without_torch(tmp_path: Path) -> None:
    records = [
        record(5.0 + seed / 100, run=f"rope-seed{seed}", seed=seed, length=64 * factor)
        for seed in range(50)
        for factor in (1, 2, 4, 8)
    ]
    runs = stored(tmp_path / "runs", *records)
    done = python(HEAVY, "table", "--format", "json", "--runs-dir", runs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["4", "[]"]
