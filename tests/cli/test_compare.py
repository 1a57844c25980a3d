"""Tests of ``posx.cli.compare``."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.compare import (
    compared,
    pair,
    shelf,  # noqa: F401
)
from fixtures.models import posx
from fixtures.records import ALIBI, LONG, ROPE, Shelf, by_document, hardness


def refused(*arguments: object) -> str:
    """The error of a command: exit code 2, nothing on standard output, a sentence and a way out."""
    result = posx("compare", *arguments, code=2)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    message = result.stderr.partition("Error: ")[2]
    lines = [line for line in message.splitlines() if line.strip()]
    assert len(lines) == 2, result.stderr
    return " ".join(lines)


def test_lengths_in_tokens_and_multiples(shelf: Shelf) -> None:
    pair(shelf, {64: (0.1, 0.02), 128: (0.1, 0.02), 256: (0.1, 0.02)}, seeds=1)
    for asked in (["4x", "128"], ["128", "256", "2x"]):
        options = [part for text in asked for part in ("--length", text)]
        assert [one["length"] for one in compared(shelf, "rope", "alibi", *options)] == [128, 256]


UNLIKE = [
    ({"stride": 16}, "their tail strides differ (eval.stride): 2 and 16"),
    ({"target_context": 1024}, "their target contexts differ (eval.target_context): 512 and 1024"),
    ({"max_targets": 64}, "their numbers of targets differ (eval.max_targets): 4096 and 64"),
    ({"target_seed": 7}, "the seeds of their targets differ (eval.seed): 0 and 7"),
    ({"corpus_sha256": "ab" * 32}, "their corpora differ"),
    ({}, "their tokenizers differ"),
]


@pytest.mark.parametrize("changes, reason", UNLIKE)
def test_unlike_hashes_are_refused_with_the_reason(shelf: Shelf, changes: dict[str, Any], reason: str) -> None:
    shelf.put(hardness(), **ROPE)
    shelf.put(hardness() + 0.1, targets_sha256="66" * 32, **changes, **ALIBI)
    message = refused("rope", "alibi", "--runs-dir", shelf.folder)
    assert "rope-seed0 and alibi-seed0 were scored on different targets at 64 tokens" in message
    assert reason in message
    assert "posx eval rope-seed0 alibi-seed0 --length 64" in message
    assert [other for _, other in UNLIKE if other != reason and other in message] == []


def test_a_mistake_is_a_sentence(shelf: Shelf) -> None:
    pair(shelf, {64: (0.1, 0.02), 256: (0.2, 0.02)}, seeds=1)
    there = ("--runs-dir", shelf.folder)
    assert "no row or run 'nope'" in refused("nope", "alibi", *there)
    assert "Available: alibi, rope." in refused("rope", "t5", *there)
    assert "no extension 'pi' among the evaluations of rope" in refused("rope:pi", "alibi", *there)
    assert "not both evaluated at 128 tokens" in refused("rope", "alibi", "--length", "128", *there)
    assert "In common: 64, 256" in refused("rope", "alibi", "--length", "2x", *there)
    assert "'far' is not a valid length" in refused("rope", "alibi", "--length", "far", *there)
    assert "no protocol 'curve'" in refused("rope", "alibi", "--protocol", "curve", *there)
    assert "no evaluation with stream" in refused("rope", "alibi", "--protocol", "stream", *there)
    assert "no evaluations" in refused("rope", "alibi", "--runs-dir", shelf.folder / "nowhere")


def test_no_length_in_common_is_a_sentence(shelf: Shelf) -> None:
    shelf.put(hardness(), length=128, **ROPE)
    shelf.put(hardness(), length=256, **ALIBI)
    message = refused("rope", "alibi", "--runs-dir", shelf.folder)
    assert "rope was evaluated at 128 and alibi at 256: no length in common" in message
    assert "posx eval" in message


def test_numbers_at_no_length_in_common_are_a_sentence(shelf: Shelf) -> None:
    """Both were asked at 64, and one of them could not."""
    shelf.put(hardness(), **ROPE)
    shelf.put(None, **ALIBI)
    message = refused("rope", "alibi", "--runs-dir", shelf.folder)
    assert "no number at a length in common" in message


def test_a_row_that_means_two_configs_is_a_sentence(shelf: Shelf) -> None:
    shelf.put(hardness(), **ROPE)
    shelf.put(hardness(), run="rope-other", **(ROPE | {"config_sha256": "ee" * 32}))
    shelf.put(hardness(), **ALIBI)
    message = refused("rope", "alibi", "--runs-dir", shelf.folder)
    assert "rope matches runs with different settings: rope-other, rope-seed0" in message
    assert "Name one of these runs" in message
    (one,) = compared(shelf, "rope-other", "alibi")
    assert one["difference"] == pytest.approx(0, abs=1e-9)


def test_a_multiple_of_unlike_contexts_is_a_sentence(shelf: Shelf) -> None:
    shelf.put(hardness(), length=256, **ROPE)
    shelf.put(hardness(), length=256, run="rope-long", **LONG)
    message = refused("rope-seed0", "rope-long", "--length", "4x", "--runs-dir", shelf.folder)
    assert "4x is a different length for each of the two" in message
    assert [one["length"] for one in compared(shelf, "rope-seed0", "rope-long", "--length", "256")] == [256]


def test_itself_is_refused(shelf: Shelf) -> None:
    shelf.row({128: (0.1, 0.02)}, **ROPE)
    for other in ("rope", "rope-seed0", "rope:none", shelf.folder / "rope-seed0"):
        for a, b in (("rope", other), (other, "rope")):
            for options in ((), ("--json",), ("--length", "128")):
                message = refused(a, b, *options, "--runs-dir", shelf.folder)
                assert f"{a} would be compared with itself ({b})." in message
                assert "rope:pi and rope:ntk" in message


def test_a_run_is_not_compared_with_a_row_that_it_is_part_of(shelf: Shelf) -> None:
    """The seed in common would be paired with itself: +0.000, and "no difference"."""
    shelf.row({128: (0.1, 0.02)}, seeds=2, **ROPE)
    assert "itself" in refused("rope", "rope-seed0", "--runs-dir", shelf.folder)


def test_damaged_losses_are_a_sentence(shelf: Shelf) -> None:
    pair(shelf, {64: (0.1, 0.02)}, seeds=1)
    path = shelf.records[0].path
    assert path is not None
    path.with_suffix(".parquet").write_bytes(b"PAR1")
    assert "is damaged" in refused("rope", "alibi", "--runs-dir", shelf.folder)


def test_a_fine_tune_is_named_by_what_it_was_trained_with(shelf: Shelf) -> None:
    """With pi and with ntk, under the one label that posx gives both."""
    label = "rope + 100 steps at 256"
    for name, digit, change in (("pi", "7", 0.2), ("ntk", "8", 0.3)):
        tuned = {"label": label, "config_sha256": digit * 64, "parent_sha256": "33" * 32, "train_extension": name}
        own = {"length": 256, "extension": "trained", "run": f"tuned-{name}"}
        shelf.put(hardness() + by_document(change, 0.01), **own, **tuned)
    shelf.put(hardness(), length=256, **ROPE)
    message = refused(label, "rope", "--runs-dir", shelf.folder)
    assert f"{label} matches models trained with ntk and pi." in message
    assert f"'{label}:pi'" in message
    for name, change in (("pi", 0.2), ("ntk", 0.3)):
        (one,) = compared(shelf, f"{label}:{name}", "rope")
        assert one["difference"] == pytest.approx(change, abs=1e-5)
    (one,) = compared(shelf, f"{label}:pi", f"{label}:ntk")
    assert one["difference"] == pytest.approx(-0.1, abs=1e-5)
    assert "no extension 'yarn'" in refused(f"{label}:yarn", "rope", "--runs-dir", shelf.folder)
