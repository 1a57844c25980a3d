"""Tests of ``posx.evaluation.evaluate``: finetunes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fixtures.corpora import corpus_of
from fixtures.finetuned_runs import (
    EXACT,
    HEAD,
    LONG,
    MORE,
    SEEN,
    THETA,
    TO_4X,
    L,
    as_gpt2,
    as_neox,
    ask,
    by_host,
    by_ntk,
    finetune,
    gap,
    losses,
    own,  # noqa: F401
    posx,
    record_of,
    resized,
    runs,  # noqa: F401
    text,  # noqa: F401 - a fixture
    tuned,
    weights,
)
from posx.config.schema import EvalConfig
from posx.results.records import read_records
from posx.runs.directory import create, open_run
from posx.training.loop import train
from posx.utils.console import Display

TRAINED_WITH: dict[str, dict[str, Any]] = {
    "rope-pi": {"rope_type": "linear", "factor": 4.0},
    "rope-ntk": {"rope_theta": by_ntk(4)},
}


@pytest.mark.parametrize("name", TRAINED_WITH)
def test_what_a_run_was_trained_with_acts_at_every_length_with_its_scale(runs: Path, name: str) -> None:
    """Below, at and above the length of its training; the factor stays 4."""
    run = open_run(runs / name)
    found = ask(run, [L, 37, LONG, 100], "trained")
    with_it, plain = as_neox(run, **TRAINED_WITH[name]), as_neox(run)
    for record in found.values():
        assert gap(losses(record), by_host(run, record, with_it)) < EXACT
    assert gap(losses(found["trained", L]), by_host(run, found["trained", L], plain)) > SEEN


@pytest.mark.parametrize("name", TRAINED_WITH)
def test_none_drops_it(runs: Path, name: str) -> None:
    """The plain forward pass, and beside it the control as it was trained."""
    run = open_run(runs / name)
    found = ask(run, [L, LONG], "none")
    assert set(found) == {("none", L), ("none", LONG), ("trained", L)}
    for length in (L, LONG):
        record = found["none", length]
        assert gap(losses(record), by_host(run, record, as_neox(run))) < EXACT
        assert record.extension_params == {}
        assert record.train_extension != "none"
    assert gap(losses(found["none", L]), losses(found["trained", L])) > SEEN
    assert not found["none", L].as_trained


def test_the_default_is_what_a_run_was_trained_with() -> None:
    assert EvalConfig().extensions == ["trained"]


def test_a_window_composes_on_top(runs: Path) -> None:
    run = open_run(runs / "rope-pi")
    record = ask(run, [40], "window(w=8)")["trained+window(w=8)", 40]

    def addend(length: int) -> Tensor:
        i, j = torch.arange(length)[:, None], torch.arange(length)
        return torch.where(i - j < 8, 0.0, float("-inf"))

    host = as_neox(run, **TRAINED_WITH["rope-pi"])
    assert gap(losses(record), by_host(run, record, host, addend)) < EXACT
    assert gap(losses(record), by_host(run, record, host)) > SEEN
    assert record.extension_params == {"window": {"w": 8}, "trained": {"pi": {"s": 4.0}}}


@pytest.mark.parametrize("length, on_top", [(40, 1.0), (LONG, 1.0), (96, 1.5), (128, 2.0)])
def test_another_pi_extends_what_the_training_reached(runs: Path, length: int, on_top: float) -> None:
    """Its scale is ℓ / train_context: pi(s=4) trained, then pi at 8x, is pi(s=8)."""
    run = open_run(runs / "rope-pi")
    record = ask(run, [length], "pi")["trained+pi", length]
    assert record.extension_params == {"pi": {"s": on_top}, "trained": {"pi": {"s": 4.0}}}
    host = as_neox(run, rope_type="linear", factor=4 * on_top)
    assert gap(losses(record), by_host(run, record, host)) < EXACT


def test_ntk_on_top_of_pi_acts_on_the_frequencies_that_were_trained(runs: Path) -> None:
    run = open_run(runs / "rope-pi")
    record = ask(run, [128], "ntk")["trained+ntk", 128]
    host = as_neox(run)
    pairs = HEAD // 2
    angles = [THETA ** (-k / pairs) / 4 * 2 ** (-k / (pairs - 1)) for k in range(pairs)]
    before = host.gpt_neox.rotary_emb.inv_freq
    assert torch.allclose(before, torch.tensor([THETA ** (-k / pairs) for k in range(pairs)]))
    before.copy_(torch.tensor(angles))
    assert gap(losses(record), by_host(run, record, host)) < EXACT


def test_learned_positions_keep_their_rows_and_interpolate_as_in_training(runs: Path) -> None:
    """The table still has 16 rows; 64 positions are spread over them at every length, and 128 with interpolate."""
    run = open_run(runs / "learned-interpolate")
    table = weights(run)["scheme.table"]
    assert len(table) == L
    found = ask(run, [L, 37, LONG], "trained") | ask(run, [128], "interpolate")
    assert set(found) == {("trained", L), ("trained", 37), ("trained", LONG), ("trained+interpolate", 128)}
    for (_, length), record in found.items():
        host = as_gpt2(run, resized(table, 128 if length == 128 else LONG))
        assert gap(losses(record), by_host(run, record, host)) < EXACT
    at_once = by_host(run, found["trained", L], as_gpt2(run, table))
    assert gap(losses(found["trained", L]), at_once) > SEEN


def test_learned_positions_past_the_training_end_with_a_way_out_that_works(runs: Path) -> None:
    """Trained at 64 with interpolate, 64 tokens are within reach: the reason must not say 16."""
    run = open_run(runs / "learned-interpolate")
    record = ask(run, [128, LONG], "trained")["trained", 128]
    assert record.status == "unsupported"
    assert "interpolate" in record.reason
    assert "64" in record.reason
    assert "up to 16" not in record.reason


def test_sinusoids_interpolate_as_in_training(runs: Path, tmp_path: Path) -> None:
    """p / 4 at every length, and p / 8 with interpolate on top at 8x; the formula in float64."""
    config = tuned(open_run(runs / "sinusoidal"), "train.context=4x", "train.steps=10", "train.extension=interpolate")
    run = create(tmp_path, "run", config, resume=False)
    train(run, corpus_of(config), Display(quiet=True))
    found = ask(run, [L, LONG], "trained") | ask(run, [128], "interpolate")
    width = run.config.model.d_model
    for (_, length), record in found.items():
        positions = torch.arange(length).double() / (8 if length == 128 else 4)
        angles = positions[:, None] * THETA ** (-torch.arange(0, width, 2).double() / width)
        host = as_gpt2(run, torch.stack([angles.sin(), angles.cos()], -1).flatten(1).float())
        with torch.no_grad():  # tokens are scaled on their way in, and not in the tied head
            host.transformer.wte.weight *= width**0.5
        assert gap(losses(record), by_host(run, record, host)) < EXACT


def test_a_control_trains_on_at_the_old_context_without_an_extension(own: Path) -> None:
    run = finetune(own, "rope", "control", f"train.steps={MORE}", "train.log_every=1")
    lineage = run.meta["lineage"]
    assert (lineage["base_context"], lineage["train_context"], lineage["train_extension"]) == (L, L, "none")
    record = ask(run, [LONG], "trained")["none", LONG]
    assert record.as_trained
    assert gap(losses(record), by_host(run, record, as_neox(run))) < EXACT
    assert record.train_tokens == record_of(own, "rope-pi").train_tokens


def test_a_finetune_without_an_extension_is_plain_at_its_context(own: Path) -> None:
    run = finetune(own, "rope", "plain", *TO_4X)
    found = ask(run, [LONG], "none", "pi")
    assert set(found) == {("none", L), ("none", LONG), ("pi", LONG)}
    assert gap(losses(found["none", LONG]), by_host(run, found["none", LONG], as_neox(run))) < EXACT
    # Training reached 64: pi there has nothing to do.
    assert found["pi", LONG].extension_params == {"pi": {"s": 1.0}}


def test_a_finetune_without_its_first_run_still_evaluates(own: Path) -> None:
    run = open_run(own / "rope-pi")
    expected = losses(ask(run, [L], "trained")["trained", L])
    shutil.rmtree(run.path / "eval")
    shutil.rmtree(own / "rope")
    asked = ["eval.target_context=128", "eval.max_targets=64", "eval.stride=1"]
    posx("eval", "rope-pi", "--length", "1x", *asked, "--runs-dir", own)
    (record,) = read_records(own, ["rope-pi"])
    assert losses(record) == expected
    posx("table", "--runs-dir", own)


def test_an_extension_that_cannot_be_at_a_length_is_a_cell(own: Path) -> None:
    """self-extend reaches 52 tokens where L is 16: beyond it is a dash with a reason, and the others are scored."""
    asked = [*("--extension", "self-extend"), *("--extension", "pi"), "eval.max_targets=60", "--runs-dir", own]
    rows = json.loads(posx("eval", "rope", "--length", "2x", "--length", LONG, *asked, "--json").stdout)
    found = {(row["extension"], row["length"]): row for row in rows}
    assert found["self-extend", LONG]["status"] == "unsupported"
    assert "cannot keep the distances of 64 tokens below 16" in found["self-extend", LONG]["reason"]
    others = [("self-extend", 32), ("pi", 32), ("pi", LONG), ("none", L)]
    assert [found[key]["status"] for key in others] == ["ok"] * 4
    shown = posx("eval", "rope", "--length", LONG, "--extension", "self-extend", *asked[2:]).stdout
    assert "cannot keep the distances" in " ".join(shown.split())
    only = posx("eval", "rope", "--length", LONG, "--extension", "self-extend", *asked[4:], code=2)
    assert "cannot keep the distances" in " ".join(only.stderr.split())
    ranked = json.loads(posx("recommend", "rope", "--length", LONG, *asked[4:], "--json").stdout)
    assert {row["extension"] for row in ranked if row["status"] == "unsupported"} == {"self-extend"}
