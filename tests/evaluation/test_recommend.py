"""Tests of ``posx.evaluation.recommend``."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch

from fixtures.models import posx
from fixtures.reproduced_runs import (
    asked,
    own,  # noqa: F401
    refused,
    runs,  # noqa: F401 - a fixture
    text,  # noqa: F401 - a fixture
    tree,
    values,
)
from posx.results.records import current_records, read_records

torch.set_num_threads(1)


MASKED = {"window", "sinks", "lm-infinite"}


SHARPER = {"log-n", "temperature", "temperature(c=0.05)", "temperature(c=0.2)", "temperature(c=0.3)"}


MOVED = {
    *("self-extend", "self-extend(w=8)", "rerope", "rerope(w=4)", "rerope(w=15)", "leaky-rerope", "leaky-rerope(w=4)"),
    *("dual-chunk", "dual-chunk(s=8)"),
}


FITTING = {
    "alibi": {"none", "alibi-scale", *MASKED, *SHARPER, *MOVED},
    "rope": {
        *("none", "pi", "ntk", "ntk(s=3.75)", "ntk(s=5)", "ntk(s=10)", "dynamic-ntk", "dynamic-ntk(f=4)", "llama3"),
        *("abf", "abf(base=100000)", "by-parts", "by-parts(s=5)", "yarn", "yarn(s=5)", "resonance"),
        *MASKED,
        *SHARPER,
        *MOVED,
    },
    "learned": {"none", "interpolate", *MASKED, *SHARPER},
}


@pytest.mark.parametrize("name", sorted(FITTING))
def test_only_what_fits_is_tried_and_ranked_by_nats(own: Path, name: str) -> None:
    """The order is that of the stored records, all of the validation split."""
    before = {r.key for r in current_records(own / name)}
    rows = json.loads(asked(own, name, "--length", 40, "--json").stdout)
    made = [r for r in current_records(own / name) if r.key not in before]
    assert {r.split for r in made} == {"validation"}
    assert {(r.extension, r.length) for r in made if r.length != 40} == {("none", 16)}
    there = {r.extension: r for r in made if r.length == 40}
    assert set(there) == FITTING[name]
    computed = sorted((r for r in there.values() if r.nats is not None), key=lambda r: values(r)[0])
    ok = [row for row in rows if row["status"] == "ok"]
    assert [row["extension"] for row in ok] == [r.extension for r in computed]
    assert rows[: len(ok)] == ok, "those without a number come last"
    best = values(computed[0])[0]
    for row, one in zip(ok, computed, strict=True):
        assert row["nats_per_token"] == values(one)[0]
        assert row["behind"] == values(one)[0] - best
        assert (row["nats"], row["n_targets"], row["split"]) == (one.nats, one.n_targets, "validation")
        if row is not ok[0]:
            low, high = row["interval"]
            assert low <= row["behind"] <= high
        line = shlex.split(row["line"])
        assert line[:3] == ["posx", "eval", name]
        assert line[line.index("--extension") + 1] == one.extension
        assert line[line.index("--length") + 1] == "40"
    unsupported = {row["extension"]: row for row in rows[len(ok) :]}
    assert set(unsupported) == ({"none", *MASKED, *SHARPER} if name == "learned" else set())
    for row in unsupported.values():
        assert "learned positions end at 16" in row["reason"]
        assert (row["nats_per_token"], row["behind"], row["interval"], row["line"]) == (None, None, None, "")


def test_a_fine_tune_is_tried_with_what_it_was_trained_with(own: Path) -> None:
    rows = json.loads(asked(own, "tuned", "--length", 80, "--json").stdout)
    ok = [row["extension"] for row in rows if row["status"] == "ok"]
    assert "trained" in ok
    assert {row["train_extension"] for row in rows} == {"pi(s=3)"}
    assert "48 tokens require no extension" in refused("recommend", "tuned", "--length", 48, "--runs-dir", own)


def test_tables_of_the_test_split_do_not_change(own: Path) -> None:
    before = posx("table", "--format", "md", "--runs-dir", own).stdout
    cells = posx("table", "--format", "json", "--protocol", "all", "--runs-dir", own).stdout
    asked(own, "rope", "--length", 40)
    asked(own, "rope", "--length", 64)
    assert {r.split for r in read_records(own, [])} == {"test", "validation"}
    assert posx("table", "--format", "md", "--runs-dir", own).stdout == before
    assert posx("table", "--format", "json", "--protocol", "all", "--runs-dir", own).stdout == cells
    assert "validation" not in before


def test_asked_twice_it_computes_once(own: Path) -> None:
    first = json.loads(asked(own, "alibi", "--length", 40, "--json").stdout)
    before = tree(own / "alibi" / "eval")
    assert json.loads(asked(own, "alibi", "--length", "2.5x", "--json").stdout) == first
    assert tree(own / "alibi" / "eval") == before
