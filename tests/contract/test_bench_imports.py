"""posx bench --help imports nothing heavy."""

from __future__ import annotations

from fixtures.corpora import python


def test_help_imports_nothing_heavy() -> None:
    script = """
import sys
from posx.__main__ import main
sys.argv = ["posx", "bench", "--help"]
try:
    main()
except SystemExit as done:
    assert done.code == 0
print("IMPORTED", sorted({"torch", "hydra", "matplotlib", "numpy", "rich.table"} & set(sys.modules)))
"""
    done = python(script)
    assert done.returncode == 0, done.stderr
    assert "posx bench --schemes" in done.stdout
    assert done.stdout.splitlines()[-1] == "IMPORTED []"
