"""Tests of ``posx.results.records``."""

from __future__ import annotations

import json
import math
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fixtures.stored_records import BYTES, TARGETS, record, stored
from posx.errors import PosxError
from posx.results.aggregate import aggregate
from posx.results.records import Record, as_json, bits_per_byte, perplexity, read_record, read_records, write_record


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    one = record(4.0123456789012345, scheme_params={"base": 5e5}, notes=["– ±"], stride=None, target_context=None)
    write_record(tmp_path / "a.json", one)
    again = read_record(tmp_path / "a.json")
    assert again == one
    assert as_json(again) == as_json(one)
    assert (one.path, one.key) == (None, "")
    assert (again.path, again.key) == (tmp_path / "a.json", "a")


def test_a_file_holds_sums_and_nothing_derived(tmp_path: Path) -> None:
    """Perplexity and bits per byte follow from the sums; stored beside them they could disagree."""
    one = record(5.0, path=tmp_path / "elsewhere.json")
    write_record(tmp_path / "a.json", one)
    values = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert values == as_json(one)
    assert values.keys() == {f.name for f in fields(Record)} - {"path"}  # a file may be moved
    assert values["nats"] == 500.0
    assert (values["n_targets"], values["bytes"], values["schema"]) == (TARGETS, BYTES, 2)
    derived = {"ppl", "perplexity", "bpb", "bits_per_byte", "nats_per_token", "delta", "multiple", "as_trained"}
    assert not derived & values.keys()


def test_the_fields_that_the_design_names_are_there() -> None:
    named = """schema run scheme scheme_params extension extension_params seed base_context train_context
        train_extension length protocol split stride target_context n_targets n_documents targets_sha256 nats bytes
        status reason parameters backend dtype device seconds tokens_per_second peak_memory_bytes versions
        recipe_sha256 parent_sha256 train_steps train_tokens"""
    assert set(named.split()) <= {f.name for f in fields(Record)}


def test_derived_values() -> None:
    one = record(math.log(50), length=96)
    assert one.nats_per_token == pytest.approx(math.log(50), rel=1e-15)
    assert one.multiple == 1.5
    assert perplexity(math.log(50)) == pytest.approx(50)
    # One bit for each of 250 bytes.
    assert bits_per_byte(250 * math.log(2), 250) == pytest.approx(1.0)
    assert record(None).nats_per_token is None
    # Of a fine-tune with pi: "trained" is the model as it is, "none" takes its pi away.
    as_trained = [(extension, "pi(s=4)") for extension in ("trained", "none", "pi", "trained+window")]
    as_trained += [(extension, "none") for extension in ("none", "trained", "pi")]
    found = [record(extension=one, train_extension=other).as_trained for one, other in as_trained]
    assert found == [True, False, False, False, True, False, False]


def test_perplexity_overflows_to_infinity() -> None:
    assert perplexity(5000.0) == math.inf
    assert math.isfinite(perplexity(600.0))


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_record(tmp_path / "a.json", record(math.nan))
    assert list(tmp_path.iterdir()) == []


def without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k != key}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param(json.dumps(as_json(record()))[:200], id="cut off"),
        pytest.param("[]", id="a list"),
        pytest.param("null", id="null"),
        pytest.param(json.dumps(as_json(record()) | {"schema": 1}), id="an earlier version"),
        pytest.param(json.dumps(as_json(record()) | {"schema": 3}), id="a later version"),
        pytest.param(json.dumps(without(as_json(record()), "nats")), id="a field is missing"),
        pytest.param(json.dumps(as_json(record()) | {"more": 1}), id="a field too many"),
        pytest.param(json.dumps(as_json(record()) | {"path": "a.json"}), id="the place of a file in the file"),
    ],
)
def test_a_damaged_record_is_a_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "runs" / "r0" / "eval" / "a.json"
    path.parent.mkdir(parents=True)
    (tmp_path / "runs" / "r0" / "config.yaml").touch()
    path.write_text(content, "utf-8")
    with pytest.raises(PosxError, match=r"a\.json is ") as caught:
        read_records(tmp_path / "runs", [])
    assert caught.value.hint
    assert caught.value.code == 2


def test_a_record_that_is_not_utf8_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(PosxError, match=r"a\.json is damaged"):
        read_record(tmp_path / "a.json")


def test_runs_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record(), record(run="other"))
    assert {r.run for r in read_records(runs, [])} == {"rope-seed0", "other"}
    assert [r.run for r in read_records(runs, ["other"])] == ["other"]
    assert [r.run for r in read_records(tmp_path / "nowhere", [str(runs / "other")])] == ["other"]


def test_no_evaluations_are_a_sentence_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PosxError, match="no evaluations") as caught:
        read_records(tmp_path / "runs", [])
    assert "posx sweep quick" in caught.value.hint
    (tmp_path / "runs" / "r0").mkdir(parents=True)
    (tmp_path / "runs" / "r0" / "config.yaml").touch()
    with pytest.raises(PosxError, match="no evaluations") as caught:
        read_records(tmp_path / "runs", [])
    assert "posx eval" in caught.value.hint


def test_a_wrong_name_is_a_sentence(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record())
    with pytest.raises(PosxError, match="no run 'rope-seed1'") as caught:
        read_records(runs, ["rope-seed1"])
    assert "Did you mean rope-seed0" in caught.value.hint
    (runs / "empty").mkdir()
    with pytest.raises(PosxError, match="empty is not a posx run"):
        read_records(runs, ["empty"])


@pytest.mark.parametrize("names", [("a.json", "b.json"), ("b.json", "a.json")])
def test_a_cell_that_was_computed_again_counts_with_its_later_number(tmp_path: Path, names: tuple[str, str]) -> None:
    """A later version of posx computes a cell anew, and the file of the earlier one stays beside it."""
    runs = stored(tmp_path / "runs")
    folder = runs / "rope-seed0" / "eval"
    folder.mkdir(parents=True)
    (runs / "rope-seed0" / "config.yaml").touch()
    for number, (name, nats) in enumerate(zip(names, (9.0, 5.0), strict=True)):
        write_record(folder / name, record(nats, versions={"posx": f"0.{number + 1}.0"}))
        os.utime(folder / name, (1e9 + number, 1e9 + number))
    (cell,) = aggregate(read_records(runs, []))
    assert cell.nats_per_token == 5.0
    assert cell.delta == 0.0
