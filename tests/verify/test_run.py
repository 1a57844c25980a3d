"""Tests of ``posx.verify.run``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.corpora import child_environment, python
from fixtures.models import posx
from fixtures.verified import own  # noqa: F401 - a fixture

FIELDS = {"name", "kind", "check", "oracle", "difference", "tolerance", "ok", "reason"}


def test_the_checks_of_two_schemes() -> None:
    rows = json.loads(posx("verify", "alibi", "cable", "--json").stdout)
    assert all(set(row) == FIELDS for row in rows)
    assert [row["name"] for row in rows] == sorted(row["name"] for row in rows)
    assert {(row["kind"], row["ok"], row["reason"]) for row in rows} == {("scheme", True, "")}
    assert all(0 <= row["difference"] <= row["tolerance"] for row in rows)
    assert [row["oracle"] for row in rows if row["name"] == "alibi" and row["check"] == "oracle"] == [
        "the paper's formula in float64, at 300 and 16,384 keys",
        "the paper's formula in float64",
        "transformers MPT",
        "transformers BLOOM, +m·j",
    ]
    assert sum(row["check"] == "property" for row in rows) == 12


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("peek", {"causality: later tokens change no bit", "blocks of queries, last queries = all queries"}),
        ("idle", {"gradients reach every parameter (number missing)"}),
        ("burst", {"64 queries × 16,384 keys in bf16 = float32"}),
    ],
)
def test_a_broken_scheme_fails(name: str, expected: set[str], own: Path) -> None:
    result = posx("verify", name, "--config-dir", own, "--trust", "--json", code=1)
    rows = json.loads(result.stdout)
    failed = {row["oracle"] for row in rows if row["ok"] is False}
    assert expected <= failed
    if name == "idle":
        assert failed == expected
        assert [row["difference"] for row in rows if not row["ok"]] == [3.0]
    assert "Next" not in result.stderr


def test_an_exception_in_one_scheme_does_not_affect_others(own: Path) -> None:
    shown = posx("verify", "fail", "nope", "--config-dir", own, "--trust", code=1).stdout
    assert "RuntimeError: no such thing" in shown
    rows = json.loads(posx("verify", "fail", "nope", "--config-dir", own, "--trust", "--json", code=1).stdout)
    assert {row["ok"] for row in rows if row["name"] == "fail"} == {False}
    assert {row["ok"] for row in rows if row["name"] == "nope"} == {True}


def test_checks_are_skipped_without_optional_packages() -> None:
    """The other checks run, and none fails."""
    script = """
import sys
sys.modules["transformers"] = sys.modules["x_transformers"] = None
from posx.__main__ import main
sys.argv = ["posx", "verify", *sys.argv[1:]]
main()
"""
    done = python(script, "rope", "--json", **child_environment())
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    skipped = {row["oracle"]: row["reason"] for row in rows if row["ok"] is None}
    assert skipped == {
        "transformers GPT-NeoX": "transformers is not installed",
        "transformers Llama": "transformers is not installed",
        "x-transformers, interleaved": "x-transformers is not installed",
    }
    assert sum(row["ok"] is True for row in rows) == 8
    shown = python(script, "rope", **child_environment()).stdout
    assert "Skipped: transformers and x-transformers are not installed. Run pip install 'posx[verify]'" in shown


def test_a_scheme_that_refuses_everything_fails(own: Path) -> None:
    (own / "scheme" / "never.yaml").write_text("_target_: broken_schemes.Never\n", "utf-8")
    rows = json.loads(posx("verify", "never", "--config-dir", own, "--trust", "--json", code=1).stdout)
    assert {(row["ok"], row["reason"]) for row in rows} == {(False, "Not for you. Ask another.")}


def test_a_package_that_is_too_old_is_reported(tmp_path: Path) -> None:
    """A package without the required classes: the check is skipped, and none fails."""
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "__init__.py").write_text("__version__ = '4.0'\n", "utf-8")
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from posx.__main__ import main
sys.argv = ["posx", "verify", "learned", "--json"]
main()
"""
    done = python(script, **child_environment())
    assert done.returncode == 0, done.stderr
    (row,) = (row for row in json.loads(done.stdout) if row["oracle"] == "transformers GPT-2")
    assert row["ok"] is None
    assert "cannot import name" in row["reason"]


def test_variants_of_a_scheme_are_checked_too() -> None:
    rows = json.loads(posx("verify", "shaw", "--json").stdout)
    assert sum(row["oracle"].endswith(", values=True") for row in rows) == 6
    assert {row["ok"] for row in rows} == {True, None}
    assert [row["oracle"] for row in rows if row["reason"] == "does not apply to this scheme"] == [
        "dense = FlexAttention, uncompiled, values=True"
    ]
