"""Aggregation over seeds, and every format of a table, on records made by hand."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import fields
from typing import Any

import pytest
from rich.console import Console

from posx.records import Record
from posx.statistics import Cell, aggregate
from posx.tables import render, sheets, show
from test_records import BYTES, TARGETS, record

OTHER = {"config_sha256": "55" * 32, "label": "alibi", "scheme": "alibi", "run": "alibi-seed0"}
FORMS = ("md", "csv", "latex", "json")


def seeds(nats: list[float], **changes: Any) -> list[Record]:
    """One record a seed."""
    return [record(value, seed=n, run=f"rope-seed{n}", **changes) for n, value in enumerate(nats)]


def only(cells: list[Cell], **wanted: Any) -> Cell:
    """The one cell with these values."""
    found = [c for c in cells if all(getattr(c.first, key) == value for key, value in wanted.items())]
    assert len(found) == 1, f"{len(found)} cells with {wanted}"
    return found[0]


def shown(cells: list[Cell]) -> str:
    """What a terminal that knows no colours gets."""
    out = io.StringIO()
    show(cells, Console(file=out, width=200, highlight=False))
    return out.getvalue()


# ---------------------------------------------------------------- statistics


def test_nats_are_averaged_before_anything_is_exponentiated() -> None:
    (cell,) = aggregate(seeds([math.log(10), math.log(1000)]))
    assert cell.nats_per_token == pytest.approx(math.log(100))
    assert cell.ppl == pytest.approx(100)  # the mean of the perplexities would be 505
    assert cell.seeds == [0, 1]


def test_bits_per_byte_follow_from_the_same_mean() -> None:
    (cell,) = aggregate(seeds([4.0, 6.0]))
    assert cell.bpb == pytest.approx(5.0 * TARGETS / math.log(2) / BYTES)


def test_spread_is_the_sample_standard_deviation() -> None:
    (cell,) = aggregate(seeds([1.0, 2.0, 3.0, 6.0]))
    # Mean 3; squares 4 + 1 + 0 + 9 = 14; divided by n − 1 = 3.
    assert cell.spread == pytest.approx(math.sqrt(14 / 3))
    (alone,) = aggregate(seeds([1.0]))
    assert alone.spread is None


def test_delta_is_paired_by_seed() -> None:
    """Seed 1 has no number at 4x: against the mean control of both, the change would come out at −0.5."""
    controls = seeds([4.0, 6.0, 5.0])
    longer = [r for r in seeds([4.5, 0.0, 5.5], length=256) if r.seed != 1]
    failed = record(None, seed=1, run="rope-seed1", length=256)
    cell = only(aggregate([*controls, failed, *longer]), length=256)
    assert cell.seeds == [0, 2]
    assert cell.nats_per_token == pytest.approx(5.0)
    assert cell.delta == pytest.approx(0.5)


def test_delta_of_an_extension_is_against_the_model_without_it() -> None:
    cells = aggregate(
        [record(5.0), record(5.5, extension="pi"), record(4.0, **OTHER), record(5.8, extension="pi", length=128)]
    )
    assert only(cells, extension="pi", length=64).delta == pytest.approx(0.5)
    assert only(cells, extension="pi", length=128).delta == pytest.approx(0.8)
    assert only(cells, label="alibi").delta == 0.0


@pytest.mark.parametrize(
    "control",
    [
        pytest.param([], id="none"),
        pytest.param([record(None)], id="failed"),
        pytest.param([record(5.0, targets_sha256="66" * 32)], id="other targets"),
        pytest.param([record(5.0, config_sha256="77" * 32)], id="other config"),
        pytest.param([record(5.0, checkpoint_sha256="77" * 32)], id="other weights"),
        pytest.param([record(5.0, seed=1)], id="other seed"),
        pytest.param([record(5.0, dtype="bfloat16")], id="other dtype"),
        pytest.param([record(5.0, extension="window")], id="extended"),
        pytest.param([record(5.0, protocol="stream")], id="other protocol"),
    ],
)
def test_without_its_control_a_cell_has_no_delta(control: list[Record]) -> None:
    cell = only(aggregate([*control, record(5.5, length=256)]), length=256)
    assert cell.nats_per_token == pytest.approx(5.5)
    assert cell.delta is None
    assert "%" not in render([cell], "md").split("| --- |")[1].split("\n- ")[0]


def test_one_seed_without_a_control_leaves_no_delta_of_the_others() -> None:
    records = [record(5.0), *seeds([5.5, 5.7], length=128)]
    assert only(aggregate(records), length=128).delta is None


def test_a_seed_that_was_trained_twice_counts_once() -> None:
    records = [*seeds([4.0, 6.0]), record(4.0, run="rope-seed0-2")]
    (cell,) = aggregate(records)
    assert cell.seeds == [0, 1]
    assert cell.nats_per_token == pytest.approx(5.0)


def test_a_seed_trained_twice_is_compared_with_its_own_weights() -> None:
    """On two machines the same seed ends at slightly other weights; a control is of the same weights."""
    first = [record(5.0), record(5.2, length=128)]
    again = {"run": "rope-seed0-2", "checkpoint_sha256": "88" * 32}
    second = [record(6.0, **again), record(6.9, length=128, **again)]
    for records in ([*first, *second], [*second, *first], [first[0], second[0], second[1], first[1]]):
        cells = aggregate(records)
        assert only(cells, length=64).delta == 0.0
        assert only(cells, length=128).delta in (pytest.approx(0.2), pytest.approx(0.9))


def test_a_number_is_kept_where_the_same_seed_also_failed() -> None:
    """A cell that ran out of memory once, and was computed by a second run of that seed."""
    failed = record(None, run="rope-seed0", status="oom", reason="out of memory")
    for records in ([failed, record(5.0, run="rope-seed0-2")], [record(5.0, run="rope-seed0-2"), failed]):
        (cell,) = aggregate(records)
        assert cell.nats_per_token == pytest.approx(5.0)


def test_unlike_targets_never_share_a_sheet() -> None:
    cells = aggregate([record(5.0), record(9.0, targets_sha256="66" * 32, **OTHER)])
    pages = sheets(cells)
    assert [[group.label for group, _ in page.rows] for page in pages] == [["rope"], ["alibi"]]
    for form in ("md", "latex"):
        text = render(cells, form)
        assert "11111111" in text
        assert "66666666" in text
        assert text.count("Perplexity by evaluation context") == 2


@pytest.mark.parametrize("change", [{"protocol": "stream"}, {"split": "validation"}, {"data": "text"}])
def test_nor_do_unlike_protocols_splits_or_corpora(change: dict[str, Any]) -> None:
    assert len(sheets(aggregate([record(5.0), record(6.0, **(OTHER | change))]))) == 2


def test_two_configs_under_one_label_are_told_apart() -> None:
    cells = aggregate([record(5.0), record(6.0, config_sha256="ab" * 32, run="other")])
    text = render(cells, "md")
    assert "rope [333333]" in text
    assert "rope [ababab]" in text
    assert len(sheets(cells)[0].rows) == 2


# ---------------------------------------------------------------- pictures of it


def example() -> list[Cell]:
    """Two schemes, three lengths, two seeds; one that cannot, and one extension."""
    records = [
        *seeds([4.0, 4.2]),
        *seeds([4.1, 4.3], length=128),
        *seeds([6.0, 6.2], length=256),
        *seeds([4.4, 4.4], length=256, extension="pi"),
        record(4.5, **OTHER),
        record(4.4, length=128, **OTHER),
        record(None, length=256, **OTHER),
    ]
    return aggregate(records)


def markdown_rows(text: str) -> list[list[str]]:
    """The cells of the one table in ``text``, head first."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({len(row) for row in rows}) == 1, "rows of unlike width"
    assert all(set(part) <= set("-: ") for part in rows[1])
    return [rows[0], *rows[2:]]


def test_markdown() -> None:
    text = render(example(), "md")
    head, *rows = markdown_rows(text)
    assert head == ["scheme", "extension", "parameters", "seeds", "64 (1x)", "128 (2x)", "256 (4x)"]
    # exp(4.1) = 60.34; spread 0.1·√2 of it; at 2x exp(0.1) − 1 = 10.5 %; at 4x exp(2) − 1 = 638.9 %.
    assert rows[0][:4] == ["rope", "none", "1,234,567", "2"]
    assert rows[0][4] == "60.34 ±8.5"
    assert rows[0][5].startswith("66.69 ±9.4")
    assert rows[0][5].endswith("+10.5%")
    assert rows[0][6].endswith("+638.9%")
    assert rows[1][:2] == ["rope", "pi"]
    assert rows[1][4:6] == ["", ""]  # never asked for: no number and no dash
    assert rows[1][6].endswith("+35.0%")
    assert rows[2][:2] == ["alibi", "none"]
    assert rows[2][5].endswith("-9.5%")


def test_what_could_not_be_computed_is_a_dash_with_its_footnote() -> None:
    for text in (render(example(), "md"), shown(example())):
        assert "– [1]" in text
        assert "[1] unsupported: learned positions end at 64. Try --extension interpolate." in text
    assert "-- [1]" in render(example(), "latex")


def test_equal_reasons_share_a_footnote_and_others_have_their_own() -> None:
    cells = aggregate(
        [
            record(5.0),
            record(None, length=128),
            record(None, length=256),
            record(None, length=512, status="oom", reason="out of memory"),
            record(None, length=1024, status="diverged", reason="the model's output is not finite at this length"),
        ]
    )
    text = render(cells, "md")
    _, row = markdown_rows(text)
    assert row[5:] == ["– [1]", "– [1]", "– [2]", "– [3]"]
    assert text.count("[1] unsupported") == 1
    assert "[2] oom: out of memory" in text
    assert "[3] diverged: the model's output" in text


def test_the_table_says_on_what_its_numbers_rest() -> None:
    for text in (render(example(), "md"), shown(example()), render(example(), "latex")):
        flat = " ".join(text.split())
        for part in ("fixed-targets", "test split", "100 targets in 7 documents", "S = 2", "11111111", "512 tokens"):
            assert part in flat
        assert "standard deviation over seeds" in flat
        assert "One seed" not in flat
    assert "One seed" in render(aggregate([record(5.0)]), "md")


def test_notes_of_the_corpus_reach_the_table() -> None:
    cells = aggregate([record(5.0, notes=["The corpus has only 1 document: cut into 20 contiguous pieces."])])
    for text in (render(cells, "md"), shown(cells), render(cells, "latex")):
        assert "cut into 20 contiguous pieces" in text


def test_a_pipe_in_a_label_does_not_break_a_row() -> None:
    _, row = markdown_rows(render(aggregate([record(5.0, label="a|b")]), "md"))
    assert row[0] == "a\\|b"


def test_csv_reads_back_a_row_a_cell_with_every_field() -> None:
    cells = example()
    rows = list(csv.DictReader(io.StringIO(render(cells, "csv"))))
    assert len(rows) == len(cells) == 7
    # What differs between seeds is aggregated: runs, seeds, nats_per_token. The rest of a record is there as it is.
    aggregated = {"run", "seed", "nats", "checkpoint_sha256"}
    wanted = {f.name for f in fields(Record)} - aggregated
    assert wanted | {"runs", "seeds", "nats_per_token", "spread", "ppl", "bpb", "multiple", "delta"} <= set(rows[0])
    first = rows[0]
    assert json.loads(first["seeds"]) == [0, 1]
    assert json.loads(first["runs"]) == ["rope-seed0", "rope-seed1"]
    assert json.loads(first["scheme_params"]) == {"base": 10000.0, "fraction": 1.0}
    assert float(first["nats_per_token"]) == pytest.approx(4.1)
    assert float(first["ppl"]) == pytest.approx(math.exp(4.1))
    assert (first["length"], first["base_context"], first["targets_sha256"]) == ("64", "64", "11" * 32)
    failed = next(row for row in rows if row["status"] == "unsupported")
    assert (failed["ppl"], failed["delta"]) == ("", "")
    assert failed["reason"] == "learned positions end at 64. Try --extension interpolate."


def test_json_is_an_array_of_cells() -> None:
    cells = json.loads(render(example(), "json"))
    assert len(cells) == 7
    named = {"seeds", "nats_per_token", "ppl", "bpb", "multiple", "delta", "scheme", "extension", "length", "status"}
    assert all(named <= cell.keys() for cell in cells)
    longest = next(c for c in cells if c["length"] == 256 and c["extension"] == "none" and c["scheme"] == "rope")
    assert longest["seeds"] == [0, 1]
    assert longest["nats_per_token"] == pytest.approx(6.1)
    assert longest["ppl"] == pytest.approx(math.exp(6.1))
    assert longest["delta"] == pytest.approx(2.0)
    assert longest["multiple"] == 4.0
    assert longest["bpb"] == pytest.approx(6.1 * TARGETS / math.log(2) / BYTES)
    failed = next(c for c in cells if c["status"] == "unsupported")
    assert [failed[key] for key in ("nats_per_token", "ppl", "bpb", "delta", "seeds")] == [None, None, None, None, []]


def test_json_measures_multiples_in_the_training_context() -> None:
    """DESIGN: ``multiple`` (of the training context). L = 64, and so 96 tokens are 1.5x."""
    (cell,) = json.loads(render(aggregate([record(5.0, length=96)]), "json"))
    assert cell["multiple"] == 1.5


NASTY = "50%_of {x} & $y$ #1 ~ ^ \\z"


def test_latex_is_balanced_and_escaped() -> None:
    records = [record(5.0, label=NASTY), record(5.5, label=NASTY, length=128), record(None, length=256, label=NASTY)]
    text = render(aggregate(records), "latex")
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    body = text.split("\n", 1)[1]  # the first line is a comment
    bare = re.sub(r"\\[&%$#_{}]", "", body)
    depth = 0
    for sign in bare:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    assert r"50\%\_of \{x\} \& \$y\$ \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}z" in text
    for sign in "%#_":
        assert sign not in bare
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
    assert columns is not None
    rows = [line for line in bare.splitlines() if line.endswith("\\\\")]
    assert len(rows) == 2
    assert {row.count("&") for row in rows} == {len(columns.group(1)) - 1}


def test_latex_holds_nothing_that_plain_latex_cannot_set() -> None:
    text = render(example(), "latex")
    assert [sign for sign in text if ord(sign) > 127] == []


@pytest.mark.parametrize("nats", [800.0, 1e6])
def test_a_perplexity_past_all_numbers_crashes_no_format(nats: float) -> None:
    cells = aggregate([record(5.0), record(nats, length=128)])
    assert only(cells, length=128).ppl == math.inf
    assert "∞" in render(cells, "md")
    assert r"$\infty$" in render(cells, "latex")
    assert "∞" in shown(cells)
    assert json.loads(render(cells, "json"))[1]["ppl"] is None
    assert json.loads(render(cells, "json"))[1]["nats_per_token"] == nats
    assert list(csv.DictReader(io.StringIO(render(cells, "csv"))))[1]["ppl"] == "inf"


def test_a_wide_spread_of_vast_perplexities_crashes_no_format() -> None:
    cells = aggregate([*seeds([5.0, 6.0]), *seeds([900.0, 650.0], length=128)])
    for form in FORMS:
        assert render(cells, form)
    assert "∞" in shown(cells)


@pytest.mark.parametrize("form", FORMS)
def test_only_unsupported_cells_still_make_a_table(form: str) -> None:
    assert "interpolate" in render(aggregate([record(None, length=128)]), form)


def test_models_of_unlike_contexts_stand_under_tokens_not_multiples() -> None:
    long = {"base_context": 128, "train_context": 128, "config_sha256": "99" * 32, "label": "rope-long"}
    cells = aggregate([record(5.0), record(5.5, length=128), record(4.9, length=128, **long)])
    head, *rows = markdown_rows(render(cells, "md"))
    assert head[4:] == ["64", "128"]
    assert [row[0] for row in rows] == ["rope (L = 64)", "rope-long (L = 128)"]
    assert rows[1][5] == "134.3"  # its own 1x: no change beside it


def test_a_bfloat16_evaluation_says_so() -> None:
    cells = aggregate([record(5.0), record(5.1, dtype="bfloat16")])
    _, *rows = markdown_rows(render(cells, "md"))
    assert [row[0] for row in rows] == ["rope", "rope (bfloat16)"]
