"""posx compare: paired differences of runs, groups of seeds and extensions, on equal target hashes only."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from helpers import posx
from posx.errors import PosxError
from posx.reporting.formats import show_page
from posx.reporting.views import compared as compared_page
from posx.results.compare import differences, refuse_unlike
from posx.results.query import find_row
from posx.results.records import Record
from record_helpers import ALIBI, COUNTS, DOCUMENTS, FEW, LONG, ROPE, TARGETS, Shelf, by_document, hardness
from test_records import record, stored


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def pair(shelf: Shelf, gaps: dict[int, tuple[float, float]], seeds: int = 3, **changes: Any) -> None:
    """rope and alibi at each length; rope − alibi is this gap, with its spread over documents."""
    for seed in range(seeds):
        for length, (gap, spread) in gaps.items():
            base = hardness(seed) + length / 640
            own = {"seed": seed, "length": length} | changes
            shelf.put(base, **own, **ALIBI)
            shelf.put(base + by_document(gap + 0.001 * (seed - (seeds - 1) / 2), spread, seed=length), **own, **ROPE)


def compared(shelf: Shelf, *arguments: object) -> list[dict[str, Any]]:
    """What --json prints."""
    result = posx("compare", *arguments, "--json", "--runs-dir", shelf.folder)
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


def refused(*arguments: object) -> str:
    """The error of a command: exit code 2, nothing on standard output, a sentence and a way out."""
    result = posx("compare", *arguments, code=2)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    message = result.stderr.partition("Error: ")[2]
    lines = [line for line in message.splitlines() if line.strip()]
    assert len(lines) == 2, result.stderr
    return " ".join(lines)


def student(gaps: np.ndarray) -> float:
    """Half of Student's 95 % interval of a mean over documents, by plain loops: t with 19 degrees of freedom."""
    documents = sorted(set(DOCUMENTS.tolist()))
    mean = sum(gaps.tolist()) / TARGETS
    rest = [sum(g - mean for g, d in zip(gaps.tolist(), DOCUMENTS, strict=True) if d == one) for one in documents]
    number = TARGETS**2 / sum(int(n) ** 2 for n in COUNTS)  # documents by what they weigh: 20.1
    return 2.09 * math.sqrt(sum(r * r for r in rest)) / TARGETS * math.sqrt(number / (number - 1))


# ---------------------------------------------------------------- numbers


def test_groups_of_seeds_are_compared_seed_by_seed_and_target_by_target(shelf: Shelf) -> None:
    gaps = {64: (-0.2, 0.05), 128: (0.0, 0.001), 256: (0.3, 0.05), 512: (0.01, 0.2)}
    pair(shelf, gaps)
    found = compared(shelf, "rope", "alibi")
    assert [one["length"] for one in found] == [64, 128, 256, 512]
    verdicts = ["A is better", "no difference", "B is better", "undecided"]
    for one, (length, (gap, _)), verdict in zip(found, gaps.items(), verdicts, strict=True):
        base = sum(float(hardness(seed).mean()) for seed in range(3)) / 3 + length / 640
        assert one["b"] == pytest.approx(base, abs=1e-5)
        assert one["a"] == pytest.approx(base + gap, abs=1e-5)
        assert one["difference"] == pytest.approx(gap, abs=1e-5)
        assert one["seeds"] == [[0, 0], [1, 1], [2, 2]]
        assert (one["a_name"], one["b_name"]) == ("rope", "alibi")
        assert (one["n_targets"], one["n_documents"]) == (TARGETS, 24)
        assert one["verdict"] == verdict
        low, high = one["interval"]["family"]
        alone = one["interval"]["alone"]
        assert low <= alone[0] < gap < alone[1] <= high
        assert (low + high) / 2 == pytest.approx(gap, abs=1e-5)
    assert found[0]["interval"]["family"][1] - found[0]["interval"]["family"][0] < 0.2


def test_pairing_by_target_takes_the_difficulty_of_the_text_out(shelf: Shelf) -> None:
    """Documents and targets differ by half a nat, the gap by 0.02: paired, the interval is as narrow as the gap's."""
    pair(shelf, {256: (0.1, 0.02)}, seeds=1)
    (one,) = compared(shelf, "rope", "alibi")
    half = (one["interval"]["alone"][1] - one["interval"]["alone"][0]) / 2
    assert half == pytest.approx(student(by_document(0.1, 0.02, seed=256)), rel=0.12)
    assert half < student(hardness()) / 3


def test_a_and_b_turned_round_turn_the_sign(shelf: Shelf) -> None:
    pair(shelf, {64: (-0.2, 0.05), 128: (0.3, 0.05)})
    there, back = compared(shelf, "rope", "alibi"), compared(shelf, "alibi", "rope")
    turned = {"A is better": "B is better", "B is better": "A is better"}
    for one, other in zip(there, back, strict=True):
        assert one["difference"] == pytest.approx(-other["difference"])
        assert one["interval"]["family"] == pytest.approx(
            [-bound for bound in other["interval"]["family"][::-1]],
            abs=0.002,  # replicates of seeds are drawn, and not turned round
        )
        assert turned[one["verdict"]] == other["verdict"]


def test_intervals_are_simultaneous_over_the_lengths(shelf: Shelf) -> None:
    pair(shelf, {64 * 2**n: (0.1, 0.05) for n in range(6)})
    (alone,) = compared(shelf, "rope", "alibi", "--length", "128")
    together = next(one for one in compared(shelf, "rope", "alibi") if one["length"] == 128)
    width = [one["interval"]["family"][1] - one["interval"]["family"][0] for one in (alone, together)]
    assert width[1] > 1.2 * width[0]
    assert together["interval"]["alone"] == pytest.approx(alone["interval"]["alone"], abs=0.01)


def test_extensions_of_one_model_are_compared(shelf: Shelf) -> None:
    shelf.row({256: (0.5, 0.05)}, seeds=2, **ROPE)
    shelf.row({256: (0.1, 0.05)}, seeds=2, extension="pi", **ROPE)
    shelf.row({256: (0.3, 0.05)}, seeds=2, extension="ntk", **ROPE)
    (one,) = compared(shelf, "rope:pi", "rope:ntk")
    assert (one["length"], one["difference"]) == (256, pytest.approx(-0.2, abs=1e-5))
    assert one["verdict"] == "A is better"
    (one,) = compared(shelf, "rope", "rope:pi")  # without an extension: as it was trained
    assert one["difference"] == pytest.approx(0.4, abs=1e-5)


def test_a_run_stands_for_its_seed_alone(shelf: Shelf) -> None:
    """Seed 1 of rope against all seeds of alibi: the seed that both have is paired."""
    pair(shelf, {256: (0.1, 0.02)})
    (one,) = compared(shelf, "rope-seed1", "alibi")
    assert one["seeds"] == [[1, 1]]
    assert one["a"] == pytest.approx(float(hardness(1).mean()) + 0.4 + 0.1, abs=1e-5)
    assert one["b"] == pytest.approx(float(hardness(1).mean()) + 0.4, abs=1e-5)
    (one,) = compared(shelf, shelf.folder / "rope-seed1", "alibi-seed1")
    assert one["seeds"] == [[1, 1]]


def test_without_a_seed_in_common_they_are_paired_in_order_and_it_says_so(shelf: Shelf) -> None:
    for seed in (0, 1):
        shelf.put(hardness(seed), seed=seed, **ROPE)
    for seed in (5, 6, 7):
        shelf.put(hardness(seed - 5) + by_document(0.2, 0.01), seed=seed, **ALIBI)
    (one,) = compared(shelf, "rope", "alibi")
    assert one["seeds"] == [[0, 5], [1, 6]]
    assert one["difference"] == pytest.approx(-0.2, abs=1e-5)
    assert "share no seed" in posx("compare", "rope", "alibi", "--runs-dir", shelf.folder).stdout


def test_failed_seeds_are_left_out(shelf: Shelf) -> None:
    pair(shelf, {256: (0.1, 0.02)}, seeds=2)
    shelf.put(None, seed=2, length=256, status="oom", reason="out of memory", **ROPE)
    shelf.put(hardness(2), seed=2, length=256, **ALIBI)
    (one,) = compared(shelf, "rope", "alibi")
    assert one["seeds"] == [[0, 0], [1, 1]]


def test_a_control_trained_long_is_no_part_of_its_row(shelf: Shelf) -> None:
    pair(shelf, {256: (0.1, 0.02)}, seeds=1)
    shelf.put(hardness() - 1, length=256, run="rope-long", **LONG)
    (one,) = compared(shelf, "rope", "alibi")
    assert one["difference"] == pytest.approx(0.1, abs=1e-5)
    (one,) = compared(shelf, "rope-long", "rope")
    assert one["difference"] == pytest.approx(float(hardness().mean()) - 1 - (float(hardness().mean()) + 0.5), abs=1e-5)


def test_lengths_in_tokens_and_multiples(shelf: Shelf) -> None:
    pair(shelf, {64: (0.1, 0.02), 128: (0.1, 0.02), 256: (0.1, 0.02)}, seeds=1)
    for asked in (["4x", "128"], ["128", "256", "2x"]):
        options = [part for text in asked for part in ("--length", text)]
        assert [one["length"] for one in compared(shelf, "rope", "alibi", *options)] == [128, 256]


def test_other_protocols_when_asked(shelf: Shelf) -> None:
    pair(shelf, {256: (0.1, 0.02)}, seeds=1)
    pair(shelf, {256: (-0.4, 0.02)}, seeds=1, protocol="stream", targets_sha256="66" * 32)
    assert compared(shelf, "rope", "alibi")[0]["difference"] == pytest.approx(0.1, abs=1e-5)
    (one,) = compared(shelf, "rope", "alibi", "--protocol", "stream")
    assert one["difference"] == pytest.approx(-0.4, abs=1e-5)


def test_the_validation_split_is_never_mixed_in(shelf: Shelf) -> None:
    pair(shelf, {256: (0.1, 0.02)}, seeds=1)
    pair(shelf, {256: (0.9, 0.02)}, seeds=1, split="validation", targets_sha256="66" * 32)
    (one,) = compared(shelf, "rope", "alibi")
    assert one["difference"] == pytest.approx(0.1, abs=1e-5)


# ---------------------------------------------------------------- what is shown


def test_the_table_shows_difference_interval_change_and_verdict(shelf: Shelf) -> None:
    pair(shelf, {64: (-0.2, 0.05), 256: (0.3, 0.05)})
    result = posx("compare", "rope", "alibi", "--runs-dir", shelf.folder)
    text = " ".join(result.stdout.split())
    base = sum(float(hardness(seed).mean()) for seed in range(3)) / 3
    assert "A = rope, B = alibi: paired difference in nats/token" in text
    assert "sotu, fixed-targets, test split, 128 targets in 24 documents" in text
    rows = [[p.strip() for p in line.split("│")[1:-1]] for line in result.stdout.splitlines() if line.startswith("│")]
    # exp(−0.2) − 1 = −18.1 %, exp(0.3) − 1 = 35.0 %.
    for row, length, gap, change, verdict in (
        (rows[0], 64, -0.2, "-18.1%", "A is better"),
        (rows[1], 256, 0.3, "+35.0%", "B is better"),
    ):
        assert row[0] == f"{length} ({length // 64}x)"
        assert row[1:3] == [f"{base + length / 640 + gap:.3f}", f"{base + length / 640:.3f}"]
        found = re.fullmatch(r"([+-]\d\.\d{3}) \[([+-]\d\.\d{3}), ([+-]\d\.\d{3})\]", row[3])
        assert found is not None
        assert float(found[1]) == gap
        assert float(found[2]) < gap < float(found[3])
        assert row[4:] == [change, verdict]
    assert len(rows) == 2
    (heads,) = [line for line in result.stdout.splitlines() if line.startswith("┃")]
    assert [part.strip() for part in heads.split("┃")[1:-1]] == [
        *("context", "A", "B", "A − B, 95 % interval", "ppl", "verdict")
    ]
    assert "Seeds that both have: 0, 1, 2." in result.stdout
    assert "ppl: the change of perplexity." in result.stdout
    assert "below 0, A is better" in text
    assert "One seed" not in text
    assert "ew documents" not in text
    assert "Next: posx table" in result.stderr


def test_one_seed_and_few_documents_are_said(shelf: Shelf) -> None:
    shelf.put(hardness(0, FEW), FEW, **ROPE)
    shelf.put(hardness(0, FEW) + by_document(0.1, 0.02, FEW), FEW, **ALIBI)
    text = posx("compare", "rope", "alibi", "--runs-dir", shelf.folder).stdout
    assert "One seed: the intervals speak of other documents only, not of another training." in text
    assert "Few documents: 7 are too few" in text


def test_records_without_losses_keep_their_numbers(tmp_path: Path) -> None:
    alibi = {"label": "alibi", "run": "alibi", "config_sha256": "55" * 32}
    runs = stored(tmp_path, record(5.0), record(5.25, **alibi))
    text = posx("compare", "rope", "alibi", "--runs-dir", runs).stdout
    assert "-0.250" in text
    assert "No intervals: the NLL of single targets is not beside the records" in text
    for word in ("One seed: the intervals", "too few for intervals", "simultaneous"):
        assert word not in text, "it speaks of intervals that are not there"
    (one,) = json.loads(posx("compare", "rope", "alibi", "--json", "--runs-dir", runs).stdout)
    assert (one["difference"], one["interval"], one["verdict"]) == (pytest.approx(-0.25), None, "")


def test_a_length_without_losses_does_not_take_the_intervals_of_others(shelf: Shelf) -> None:
    pair(shelf, {64: (0.1, 0.02)}, seeds=1)
    shelf.put(hardness(), length=128, losses=False, **ROPE)
    shelf.put(hardness() + 0.5, length=128, **ALIBI)
    found = compared(shelf, "rope", "alibi")
    assert [one["interval"] is None for one in found] == [False, True]


# ---------------------------------------------------------------- unlike targets

UNLIKE = [
    ({"stride": 16}, "their tail strides differ (eval.stride): 2 and 16"),
    ({"target_context": 1024}, "their targets have other contexts before them (eval.target_context): 512 and 1024"),
    ({"max_targets": 64}, "other numbers of targets were drawn (eval.max_targets): 4096 and 64"),
    ({"target_seed": 7}, "their targets were drawn with other seeds (eval.seed): 0 and 7"),
    ({"corpus_sha256": "ab" * 32}, "their texts differ"),
    ({}, "their tokenizers differ"),
]


@pytest.mark.parametrize("changes, reason", UNLIKE)
def test_unlike_hashes_are_refused_with_the_reason(shelf: Shelf, changes: dict[str, Any], reason: str) -> None:
    shelf.put(hardness(), **ROPE)
    shelf.put(hardness() + 0.1, targets_sha256="66" * 32, **changes, **ALIBI)
    message = refused("rope", "alibi", "--runs-dir", shelf.folder)
    assert "rope-seed0 and alibi-seed0 were scored on unlike targets at 64 tokens" in message
    assert reason in message
    assert "posx eval rope-seed0 alibi-seed0 --length 64" in message
    assert [other for _, other in UNLIKE if other != reason and other in message] == []


def test_all_reasons_are_named() -> None:
    with pytest.raises(PosxError) as caught:
        refuse_unlike(record(5.0), record(5.0, targets_sha256="66" * 32, stride=16, target_context=1024))
    assert "eval.stride" in caught.value.message
    assert "eval.target_context" in caught.value.message


def test_equal_hashes_are_enough() -> None:
    refuse_unlike(record(5.0), record(5.0, corpus_sha256="ab" * 32))


def test_one_unlike_seed_is_not_compared(shelf: Shelf) -> None:
    """Seed 1 of alibi has other targets: nothing of it may enter the difference."""
    pair(shelf, {64: (0.1, 0.02)}, seeds=1)
    shelf.put(hardness(1), seed=1, **ROPE)
    shelf.put(hardness(1) + 5, seed=1, targets_sha256="66" * 32, stride=16, **ALIBI)
    result = posx("compare", "rope", "alibi", "--json", "--runs-dir", shelf.folder)
    (one,) = json.loads(result.stdout)
    assert one["seeds"] == [[0, 0]]
    assert one["difference"] == pytest.approx(0.1, abs=1e-5)


def test_what_was_evaluated_again_on_other_targets_is_compared_on_those_in_common(shelf: Shelf) -> None:
    """rope was evaluated at 4x, and again with a longer target context for 16x; alibi at 4x only."""
    pair(shelf, {64: (0.1, 0.02), 256: (0.2, 0.02)}, seeds=1)
    other = {"targets_sha256": "66" * 32, "target_context": 1024}
    shelf.row({256: (9.0, 0.02), 1024: (9.0, 0.02)}, documents=FEW, **other, **ROPE)
    found = compared(shelf, "rope", "alibi")
    assert [(one["length"], one["n_documents"]) for one in found] == [(64, 24), (256, 24)]
    assert [one["difference"] for one in found] == pytest.approx([0.1, 0.2], abs=1e-5)


@pytest.mark.parametrize("first", ["long", "short"])
def test_lengths_over_unlike_targets_have_intervals_of_their_own(shelf: Shelf, first: str) -> None:
    """64 and 256 over 24 documents, 1024 over 7: whichever record comes first."""

    def short() -> None:
        pair(shelf, {64: (0.1, 0.02), 256: (0.2, 0.02)}, seeds=1)

    def long() -> None:
        for label, gap in ((ROPE, 0.3), (ALIBI, 0.0)):
            own = {"targets_sha256": "66" * 32, "target_context": 1024, "length": 1024}
            shelf.put(hardness(0, FEW) + by_document(gap, 0.02 * gap, FEW), FEW, **own, **label)

    for make in (long, short) if first == "long" else (short, long):
        make()
    found = compared(shelf, "rope", "alibi")
    assert [(one["length"], one["n_documents"]) for one in found] == [(64, 24), (256, 24), (1024, 7)]
    assert [one["difference"] for one in found] == pytest.approx([0.1, 0.2, 0.3], abs=1e-5)
    for one in found:
        low, high = one["interval"]["family"]
        assert low < one["difference"] < high < low + 0.1


def test_targets_and_documents_of_every_set_are_said(shelf: Shelf) -> None:
    """64 rests on 24 documents, 1024 on 7: the caption must not say 24 for both, nor keep silent that 7 are few."""
    pair(shelf, {64: (0.1, 0.02)}, seeds=1)
    own = {"targets_sha256": "66" * 32, "target_context": 1024, "length": 1024}
    shelf.put(hardness(0, FEW), FEW, **own, **ROPE)
    shelf.put(hardness(0, FEW) + by_document(0.1, 0.02, FEW), FEW, **own, **ALIBI)
    text = posx("compare", "rope", "alibi", "--runs-dir", shelf.folder).stdout
    assert f"test split, 128 targets in 24 documents and {len(FEW)} targets in 7 documents" in " ".join(text.split())
    assert "Few documents: 7 are too few" in text


@pytest.mark.parametrize("width", [80, 90, 100, 120])
def test_a_narrow_terminal_gets_every_number_and_verdict_whole(shelf: Shelf, width: int) -> None:
    """On the line of their length: 79 columns without lines."""
    pair(shelf, {64: (-0.2, 0.05), 128: (0.0, 0.001), 256: (0.3, 0.05), 512: (0.01, 0.2)})
    sides = [find_row(shelf.folder, name)[1] for name in ("rope", "alibi")]
    page = compared_page(differences(*sides), "rope", "alibi", shelf.records[0])
    out = io.StringIO()
    show_page(page, Console(file=out, width=width, highlight=False, force_terminal=True, color_system=None))
    text = out.getvalue()
    assert "…" not in text
    assert len(page.rows) == 4
    for row in page.rows:
        line = "(?: +│ +| {3,})".join(re.escape(entry.text) for entry in row)
        assert len(re.findall(rf"(?m)^[ │]*{line}[ │]*$", text)) == 1, row[0].text
    assert "\nSeeds that both have: 0, 1, 2.\n" in text


# ---------------------------------------------------------------- mistakes


def test_a_mistake_is_a_sentence(shelf: Shelf) -> None:
    pair(shelf, {64: (0.1, 0.02), 256: (0.2, 0.02)}, seeds=1)
    there = ("--runs-dir", shelf.folder)
    assert "no row or run 'nope'" in refused("nope", "alibi", *there)
    assert "There are: alibi, rope." in refused("rope", "t5", *there)
    assert "no extension 'pi' among the evaluations of rope" in refused("rope:pi", "alibi", *there)
    assert "not both evaluated at 128 tokens" in refused("rope", "alibi", "--length", "128", *there)
    assert "There are: 64, 256" in refused("rope", "alibi", "--length", "2x", *there)
    assert "'far' is not a length" in refused("rope", "alibi", "--length", "far", *there)
    assert "no protocol 'curve'" in refused("rope", "alibi", "--protocol", "curve", *there)
    assert "no evaluation under stream" in refused("rope", "alibi", "--protocol", "stream", *there)
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
    assert "rope means runs of unlike settings: rope-other, rope-seed0" in message
    assert "Name one of these runs" in message
    (one,) = compared(shelf, "rope-other", "alibi")
    assert one["difference"] == pytest.approx(0, abs=1e-9)


def test_a_multiple_of_unlike_contexts_is_a_sentence(shelf: Shelf) -> None:
    shelf.put(hardness(), length=256, **ROPE)
    shelf.put(hardness(), length=256, run="rope-long", **LONG)
    message = refused("rope-seed0", "rope-long", "--length", "4x", "--runs-dir", shelf.folder)
    assert "4x means another length for each of the two" in message
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


# ---------------------------------------------------------------- without the command


def test_a_name_means_a_row_a_run_or_an_extension(shelf: Shelf) -> None:
    shelf.row({256: (0.5, 0.05)}, seeds=2, **ROPE)
    shelf.row({256: (0.1, 0.05)}, seeds=2, extension="window (w=64)", **ROPE)
    name, row = find_row(shelf.folder, "rope")
    assert name == "rope"
    assert {length: [r.seed for r in records] for length, records in row.items()} == {64: [0, 1], 256: [0, 1]}
    assert {r.extension for records in row.values() for r in records} == {"none"}
    _, row = find_row(shelf.folder, "rope:window(w=64)")
    assert {r.extension for records in row.values() for r in records} == {"window (w=64)"}
    _, row = find_row(shelf.folder, "rope-seed1:window (w=64)")
    assert [r.seed for records in row.values() for r in records] == [1]


def test_a_fine_tune_is_compared_as_it_was_trained(shelf: Shelf) -> None:
    tuned = {"label": "tuned", "config_sha256": "77" * 32, "parent_sha256": "33" * 32, "train_extension": "pi"}
    shelf.put(hardness(), length=256, extension="trained", **tuned)
    shelf.put(hardness() + 3, length=256, extension="none", **tuned)
    shelf.put(hardness() + by_document(0.2, 0.01), length=256, **ROPE)
    (one,) = compared(shelf, "tuned", "rope")
    assert one["difference"] == pytest.approx(-0.2, abs=1e-5)


def test_a_fine_tune_is_named_by_what_it_was_trained_with(shelf: Shelf) -> None:
    """With pi and with ntk, under the one label that posx gives both."""
    label = "rope + 100 steps at 256"
    for name, digit, change in (("pi", "7", 0.2), ("ntk", "8", 0.3)):
        tuned = {"label": label, "config_sha256": digit * 64, "parent_sha256": "33" * 32, "train_extension": name}
        own = {"length": 256, "extension": "trained", "run": f"tuned-{name}"}
        shelf.put(hardness() + by_document(change, 0.01), **own, **tuned)
    shelf.put(hardness(), length=256, **ROPE)
    message = refused(label, "rope", "--runs-dir", shelf.folder)
    assert f"{label} means models trained with ntk and pi." in message
    assert f"'{label}:pi'" in message
    for name, change in (("pi", 0.2), ("ntk", 0.3)):
        (one,) = compared(shelf, f"{label}:{name}", "rope")
        assert one["difference"] == pytest.approx(change, abs=1e-5)
    (one,) = compared(shelf, f"{label}:pi", f"{label}:ntk")
    assert one["difference"] == pytest.approx(-0.1, abs=1e-5)
    assert "no extension 'yarn'" in refused(f"{label}:yarn", "rope", "--runs-dir", shelf.folder)


def test_differences_are_a_function_of_their_arguments(shelf: Shelf) -> None:
    pair(shelf, {64: (0.1, 0.02)}, seeds=2)
    sides: list[dict[int, list[Record]]] = [
        {64: [r for r in shelf.records if r.label == label]} for label in ("rope", "alibi")
    ]
    assert differences(sides[0], sides[1], 500) == differences(sides[0], sides[1], 500)
