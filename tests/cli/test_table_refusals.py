"""Tests of ``posx.cli.table``: what is refused."""

from __future__ import annotations

from pathlib import Path

from fixtures.models import posx
from fixtures.records import ROPE, Shelf
from fixtures.stored_records import record, stored


def refused(*arguments: object) -> str:
    """The error of a command: exit code 2, nothing on standard output, a sentence and a way out."""
    result = posx(*arguments, code=2)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    message = result.stderr.partition("Error: ")[2]
    lines = [line for line in message.splitlines() if line.strip()]
    assert len(lines) == 2, result.stderr
    assert lines[0].rstrip().endswith(".")
    return " ".join(lines)


def test_a_mistake_is_a_sentence(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record(5.0), record(5.5, length=128))
    there = ("--runs-dir", runs)
    assert "no format 'html'" in refused("table", "--format", "html", *there)
    assert "no protocol 'fixed'" in refused("table", "--protocol", "fixed", *there)
    assert "Did you mean fixed-targets" in refused("table", "--protocol", "fixed-target", *there)
    assert "no evaluations with stream" in refused("table", "--protocol", "stream", *there)
    assert "There are some with fixed-targets" in refused("table", "--protocol", "stream", *there)
    assert "for a terminal" in refused("table", "--format", "rich", "-o", tmp_path / "t.txt", *there)
    assert "no run 'rope-seed1'" in refused("table", "rope-seed1", *there)
    assert "no evaluations" in refused("table", "--runs-dir", tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "cannot be written" in refused("table", "-o", tmp_path / "file" / "t.md", *there)
    assert "cannot be written" in refused("table", "-o", tmp_path, "--format", "md", *there)


def test_only_a_curve_is_a_sentence_that_names_it(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record(5.0, protocol="curve"))
    assert "There are some with curve." in refused("table", "--runs-dir", runs)


def test_damaged_losses_are_a_sentence(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.01)}, **ROPE)
    path = shelf.records[1].path
    assert path is not None
    path.with_suffix(".parquet").write_bytes(b"PAR1")
    assert f"{path.with_suffix('.parquet')} is damaged" in refused("table", "--runs-dir", tmp_path)
