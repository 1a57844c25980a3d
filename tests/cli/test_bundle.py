"""Tests of ``posx bundle``."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from posx.cli.app import app

KEPT = Path(__file__).resolve().parents[2] / "results" / "gain"


def test_a_bundle_of_a_bundle_has_its_table_and_a_picture(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bundle", str(KEPT), "-o", str(tmp_path / "kept")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "kept" / "table.md").read_text("utf-8") == (KEPT / "table.md").read_text("utf-8")
    assert (tmp_path / "kept" / "perplexity.svg").read_text("utf-8").startswith("<?xml")


def test_without_a_folder_to_write_it_is_a_sentence(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bundle", str(KEPT)])
    assert done.exit_code == 2
    assert "Missing -o" in done.output


def test_a_bundle_is_not_written_over_itself(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert CliRunner().invoke(app, ["bundle", str(KEPT), "-o", str(kept)]).exit_code == 0
    before = (kept / "records.jsonl").read_bytes()
    done = CliRunner().invoke(app, ["bundle", str(kept), "-o", str(kept)])
    assert done.exit_code == 2
    assert "where these runs are" in done.output
    assert (kept / "records.jsonl").read_bytes() == before
