"""Aggregation over seeds, and every format of a table, on records made by hand: with and without losses on disk."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from helpers import posx
from posx.reporting.formats import choose, pages, render, show, tex
from posx.reporting.grouping import sheets
from posx.reporting.views import Entry, Page, gain, grid, long_form, protocols
from posx.results.aggregate import Cell, aggregate
from posx.results.records import Record
from record_helpers import ALIBI, DOCUMENTS, FEW, LONG, RECIPE, ROPE, TARGETS, Shelf, by_document, hardness
from test_records import BYTES, record, stored
from test_records import TARGETS as BARE

OTHER = {"config_sha256": "55" * 32, "label": "alibi", "scheme": "alibi", "run": "alibi-seed0"}
FORMS = ("md", "csv", "latex", "json")
DELTA = 0.01  # PROTOCOL.md, "Verdict"


def seeds(nats: list[float], **changes: Any) -> list[Record]:
    """One record a seed."""
    return [record(value, seed=n, run=f"rope-seed{n}", **changes) for n, value in enumerate(nats)]


def only(cells: list[Cell], **wanted: Any) -> Cell:
    """The one cell with these values."""
    found = [c for c in cells if all(getattr(c.first, key) == value for key, value in wanted.items())]
    assert len(found) == 1, f"{len(found)} cells with {wanted}"
    return found[0]


class Terminal(io.StringIO):
    """Keeps what it is given, and says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(cells: list[Cell], width: int = 200, side_by_side: bool = False) -> str:
    """What a terminal of this width that knows no colours gets."""
    out = Terminal()
    show(cells, Console(file=out, width=width, highlight=False, force_terminal=True, color_system=None), side_by_side)
    assert "\x1b" not in out.getvalue()
    return out.getvalue()


def bare(text: str) -> str:
    """Without any blank or line of a box: what may be broken over lines is found whole."""
    return re.sub(r"[\s│┃]", "", text)


def flat(text: str) -> str:
    """In one line, each blank once."""
    return " ".join(text.split())


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


# ---------------------------------------------------------------- statistics


def test_nats_are_averaged_before_anything_is_exponentiated() -> None:
    (cell,) = aggregate(seeds([math.log(10), math.log(1000)]))
    assert cell.nats_per_token == pytest.approx(math.log(100))
    assert cell.ppl == pytest.approx(100)  # the mean of the perplexities would be 505
    assert cell.seeds == [0, 1]


def test_bits_per_byte_follow_from_the_same_mean() -> None:
    (cell,) = aggregate(seeds([4.0, 6.0]))
    assert cell.bpb == pytest.approx(5.0 * BARE / math.log(2) / BYTES)


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
    _, row = markdown_rows(render([cell], "md"))
    assert row[4] == "244.7 · 5.500"  # no change beside it
    assert "against the same weights" not in render([cell], "md")


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
        assert text.count("nats/token by evaluation context") == 2


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
    """Two schemes, three lengths, two seeds; one that cannot, and one extension. No losses beside the records."""
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


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    """Every verdict, each sure: three seeds of rope, one of alibi, 24 documents."""
    shelf = Shelf(tmp_path_factory.mktemp("judged"))
    shelf.row({128: (-0.05, 0.005), 256: (0.002, 0.002), 512: (1.0, 0.1)}, seeds=3, **ROPE)
    shelf.row({256: (0.01, 0.1)}, seeds=3, extension="pi", **ROPE)
    shelf.row({128: (0.3, 0.02)}, seeds=1, **ALIBI)
    shelf.put(None, length=512, **ALIBI)
    return aggregate(shelf.records)


def markdown_rows(text: str) -> list[list[str]]:
    """The cells of the one table in ``text``, head first."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({len(row) for row in rows}) == 1, "rows of unlike width"
    assert all(set(part) <= set("-: ") for part in rows[1])
    return [rows[0], *rows[2:]]


def remarks(text: str) -> str:
    """What stands below a Markdown table."""
    return "\n".join(line[2:] for line in text.splitlines() if line.startswith("- "))


def printed(bounds: tuple[float, float]) -> str:
    """Bounds of a change to a thousandth."""
    return f"[{bounds[0]:+.3f}, {bounds[1]:+.3f}]".replace("-0.000", "+0.000")


def test_markdown_without_losses_has_every_number_and_no_verdict() -> None:
    text = render(example(), "md")
    head, *rows = markdown_rows(text)
    assert head == ["scheme", "extension", "params", "seeds", "64 (1x)", "128 (2x)", "256 (4x)", "usable"]
    # exp(4.1) = 60.34, exp(4.2) = 66.69, exp(6.1) = 445.86, exp(4.4) = 81.45; two seeds 0.2 apart spread by 0.1·√2.
    assert rows[0][:4] == ["rope", "none", "1.23M", "2"]
    assert rows[0][4:7] == ["60.34 · 4.100 ±0.141", "66.69 · 4.200 ±0.141<br>+0.100", "445.9 · 6.100 ±0.141<br>+2.000"]
    assert rows[1][:2] == ["rope", "pi"]
    assert rows[1][4:6] == ["", ""]  # never asked for: no number and no dash
    assert rows[1][6] == "81.45 · 4.400 ±0.000<br>+0.300"
    assert rows[2][:4] == ["alibi", "none", "1.23M", "1"]
    assert rows[2][5] == "81.45 · 4.400<br>-0.100"  # one seed spreads nowhere
    below = remarks(text)
    assert "No intervals: the NLL of single targets is not beside the records" in below
    for word in ("simultaneous", "uses:", "One seed", "The intervals speak"):
        assert word not in below


def test_a_cell_shows_perplexity_nats_change_interval_and_verdict(judged: list[Cell]) -> None:
    """All numbers from the arrays that went to disk, but the bounds: their middle must be the change."""
    text = render(judged, "md")
    head, *rows = markdown_rows(text)
    assert head[4:] == ["64 (1x)", "128 (2x)", "256 (4x)", "512 (8x)", "usable"]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("rope", "none", "3"),
        ("rope", "pi", "3"),
        ("alibi", "none", "1"),
    ]
    base = [sum(map(float, hardness(seed))) / TARGETS for seed in range(3)]
    spread = math.sqrt(sum((b - sum(base) / 3) ** 2 for b in base) / 2)
    assert rows[0][4] == f"{math.exp(sum(base) / 3):.2f} · {sum(base) / 3:.3f} ±{spread:.3f}"
    assert rows[2][4] == f"{math.exp(base[0]):.2f} · {base[0]:.3f}"
    verdicts = {}
    for row, number in ((rows[0], 3), (rows[1], 3), (rows[2], 1)):
        for place, length in ((5, 128), (6, 256), (7, 512)):
            if "<br>" not in row[place]:
                continue
            value, change, verdict = row[place].split("<br>")
            mean = float(value.split()[2])
            assert float(value.split()[0]) == pytest.approx(math.exp(mean), rel=0.001)
            assert mean - sum(base[:number]) / number == pytest.approx(float(change.split()[0]), abs=0.0011)
            assert ("±" in value) == (number > 1)
            delta, low, high = map(float, re.findall(r"[+-]\d+\.\d{3}", change))
            assert low < delta < high
            assert (low + high) / 2 == pytest.approx(delta, abs=0.0011)
            assert change == f"{delta:+.3f} [{low:+.3f}, {high:+.3f}]"
            cell = only(judged, length=length, label=row[0], extension=row[1])
            assert cell.interval is not None
            assert change.endswith(printed(cell.interval.family))  # of the whole table, not each for itself
            verdicts[row[0], row[1], length] = verdict, low, high, delta
    wanted = {
        ("rope", "none", 128): ("uses", -0.05),
        ("rope", "none", 256): ("survives", 0.002),
        ("rope", "none", 512): ("breaks", 1.0),
        ("rope", "pi", 256): ("undecided", 0.01),
        ("alibi", "none", 128): ("breaks", 0.3),
    }
    assert {key: (found[0], found[3]) for key, found in verdicts.items()} == wanted
    for verdict, low, high, _ in verdicts.values():  # the first that fits
        fits = {"uses": high < 0, "survives": high <= DELTA, "breaks": low > DELTA, "undecided": True}
        assert next(name for name, fit in fits.items() if fit) == verdict
    assert [row[8] for row in rows] == ["256", "256?", "64"]
    assert rows[2][7] == "– [1]"


def test_intervals_of_a_table_are_simultaneous_and_as_wide_as_student_says(tmp_path: Path) -> None:
    """One change alone has Student's interval over documents; among seven, a wider one. The table prints the latter."""
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.05)}, **ROPE)
    (alone,) = [c for c in aggregate(shelf.records) if c.length == 128]
    assert alone.interval is not None
    # Ratio estimator over documents: residuals of sums, by plain loops.
    difference = by_document(0.1, 0.05, seed=128)
    documents = sorted(set(DOCUMENTS.tolist()))
    counts = [sum(1 for d in DOCUMENTS if d == one) for one in documents]
    rest = [sum(x - 0.1 for x, d in zip(difference, DOCUMENTS, strict=True) if d == one) for one in documents]
    number = sum(counts) ** 2 / sum(n * n for n in counts)
    error = math.sqrt(sum(r * r for r in rest)) / sum(counts)
    half = (alone.interval.family[1] - alone.interval.family[0]) / 2
    assert half == pytest.approx(2.09 * error * math.sqrt(number / (number - 1)), rel=0.12)  # t, 97.5 %, 19 degrees
    for place in range(6):
        shelf.row({128: (0.1, 0.05)}, **(ROPE | {"label": f"r{place}", "config_sha256": f"{place:032x}" * 2}))
    shelf.row({128: (0.1, 0.05), 256: (0.1, 0.05), 512: (0.1, 0.05)}, **ALIBI)
    text = render(aggregate(shelf.records), "md")
    low, high = map(float, re.findall(r"\[([+-]\d\.\d+), ([+-]\d\.\d+)\]", markdown_rows(text)[1][5])[0])
    assert (high - low) / 2 > 1.1 * half
    assert "95 % intervals, simultaneous over the 10 changes of this table" in remarks(text)


def test_the_table_says_what_its_intervals_speak_of(judged: list[Cell]) -> None:
    mixed = remarks(render(judged, "md"))
    assert "The intervals speak of other documents and other seeds." in mixed
    assert "Where only one seed has a number, its interval speaks of documents only." in mixed
    assert "One seed:" not in mixed
    three = [c for c in judged if c.group.label == "rope"]
    assert "Where only one seed" not in remarks(render(three, "md"))
    one = [c for c in judged if c.group.label == "alibi"]
    for text in (render(one, "md"), shown(one), render(one, "latex"), shown(one, 80)):
        assert "One seed: the intervals speak of other documents only, not of another training." in flat(text)
        assert "other seeds" not in text


def test_under_twenty_documents_the_table_says_few_documents(tmp_path: Path, judged: list[Cell]) -> None:
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.05)}, documents=FEW, **ROPE)
    cells = aggregate(shelf.records)
    for text in (render(cells, "md"), shown(cells), render(cells, "latex"), shown(cells, 80)):
        assert "Few documents: 7 are too few" in flat(text)
        assert "in 7 documents" in flat(text)
    assert "ew documents" not in render(judged, "md")


@pytest.mark.parametrize("number, few", [(19, True), (20, False)])
def test_twenty_are_not_few(tmp_path: Path, number: int, few: bool) -> None:
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.05)}, documents=np.repeat(np.arange(number), 4), **ROPE)
    assert ("Few documents" in render(aggregate(shelf.records), "md")) == few


def test_one_document_gives_no_interval(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.05)}, documents=np.full(9, 4), **ROPE)
    text = render(aggregate(shelf.records), "md")
    assert markdown_rows(text)[1][5].endswith("<br>+0.100")
    assert "all are of one document" in remarks(text)


def test_usable_context_is_one_number_for_each_row(tmp_path: Path) -> None:
    """Up to the first that breaks, or that could not be computed; a length past a gap never counts."""
    shelf = Shelf(tmp_path)
    fine, broken = (0.001, 0.001), (0.5, 0.01)
    for name, row in {
        "all": {128: fine, 256: fine, 512: fine},
        "gap": {128: fine, 256: broken, 512: fine},
        "none": {128: broken, 256: fine, 512: fine},
        "doubt": {128: (0.01, 0.2), 256: fine, 512: broken},
        "late doubt": {128: fine, 256: broken, 512: (0.01, 0.2)},
    }.items():
        shelf.row(row, label=name, config_sha256=name.encode().hex().ljust(64, "0"))
    shelf.row({128: fine, 512: fine}, **ALIBI)
    shelf.put(None, length=256, **ALIBI)
    head, *rows = markdown_rows(render(aggregate(shelf.records), "md"))
    assert head[-1] == "usable"
    found = {row[0]: row[-1] for row in rows}
    assert found == {"all": "512", "gap": "128", "none": "64", "doubt": "64–256?", "late doubt": "128", "alibi": "128"}
    assert "the largest length up to which nothing breaks" in remarks(render(aggregate(shelf.records), "md"))


# ---------------------------------------------------------------- seeds


def named_rows(page: Page) -> list[tuple[str, str, list[list[Entry]]]]:
    """The rows of numbers of a long form, by the name above them and what it says of seeds and usable context."""
    starts = [0, *sorted(page.sections)]
    found = []
    for first, past in zip(starts, [*starts[1:], len(page.rows)], strict=True):
        name, told, *rows = page.rows[first:past]
        for above in (name, told):  # rows of their own: nothing stands beside them
            assert len(above[0].lines) == 1
            assert [one.lines for one in above[1:]] == [("",)] * 4
        for row in rows:
            assert all(len(one.lines) == 1 for one in row)  # a number stands beside its length
            assert re.fullmatch(r"  \d+ \(\d+x\)", row[0].lines[0])
        assert rows
        found.append((name[0].lines[0], told[0].lines[0], rows))
    return found


def test_the_number_of_seeds_stands_in_every_form_of_the_table(judged: list[Cell]) -> None:
    """The issue: "spread and number of seeds are always shown"."""
    page = grid(sheets(judged)[0])
    assert page.heads[3] == "seeds"
    assert [row[3].text for row in page.rows] == ["3", "3", "1"]
    assert [row[0].text for row in page.rows] == ["rope", "rope", "alibi"]
    for row in page.rows:
        assert any("±" in entry.text for entry in row) == (row[3].text == "3")
    told = named_rows(long_form(sheets(judged)[0]))
    assert [(name, seeds_) for name, seeds_, _ in told] == [
        ("rope", "3 seeds, usable 256"),
        ("rope + pi", "3 seeds, usable 256?"),
        ("alibi", "1 seed, usable 64"),
    ]
    for name, _, rows in told:
        assert ["±" in row[1].text for row in rows] == [name != "alibi"] * len(rows)
    for width in (80, 90, 100, 120):
        text = bare(shown(judged, width))
        parts = ("3seeds,usable256", "3seeds,usable256?", "1seed,usable64")
        assert [text.count(part) for part in parts] == [2, 1, 1]


def test_a_number_over_fewer_seeds_than_its_row_says_so(tmp_path: Path) -> None:
    """At 512 two of three seeds ran out of memory: the row says 1–3, and this number alone has no spread."""
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.01)}, seeds=3, **ROPE)
    shelf.put(hardness(0) + 0.2, length=512, **ROPE)
    for seed in (1, 2):
        shelf.put(None, length=512, seed=seed, status="oom", reason="out of memory", **ROPE)
    cells = aggregate(shelf.records)
    assert only(cells, length=512).seeds == [0]
    _, row = markdown_rows(render(cells, "md"))
    assert row[3] == "1–3"
    assert ["±" in row[place] for place in (4, 5, 6)] == [True, True, False]
    assert row[6].startswith(f"{math.exp(hardness(0).mean() + 0.2):.2f} · {hardness(0).mean() + 0.2:.3f}<br>+0.200 [")
    assert "Where only one seed has a number, its interval speaks of documents only." in remarks(render(cells, "md"))
    assert "& 1--3 &" in render(cells, "latex")
    ((name, told, rows),) = named_rows(long_form(sheets(cells)[0]))
    assert (name, told) == ("rope", "1–3 seeds, usable 64")
    assert [row[0].text for row in rows] == ["  64 (1x)", "  128 (2x)", "  512 (8x)"]
    assert ["±" in row[1].text for row in rows] == [True, True, False]
    assert bare(shown(cells, 80)).count("1–3seeds,usable64") == 1
    assert re.search(r"│ +1–3 │", shown(cells, 200))


def test_a_row_of_equally_many_other_seeds_has_one_number_of_seeds(tmp_path: Path) -> None:
    """Two of three seeds at each length, never the same two; a length without any number is no row of 0 seeds."""
    shelf = Shelf(tmp_path)
    for seed, length in ((0, 64), (1, 64), (1, 128), (2, 128), (0, 256), (2, 256)):
        shelf.put(hardness(seed), seed=seed, length=length, **ROPE)
    for seed in range(3):
        shelf.put(None, seed=seed, length=512, **ROPE)
    _, row = markdown_rows(render(aggregate(shelf.records), "md"))
    assert row[3] == "2"


def test_failed_seeds_are_left_out_of_the_mean_and_of_the_count(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for seed in (0, 2):
        shelf.put(hardness(seed), seed=seed, **ROPE)
        shelf.put(hardness(seed) + by_document(0.1, 0.01), seed=seed, length=128, **ROPE)
    for length in (64, 128):
        shelf.put(None, seed=1, length=length, status="diverged", reason="not finite", **ROPE)
    _, row = markdown_rows(render(aggregate(shelf.records), "md"))
    mean = (hardness(0).mean() + hardness(2).mean()) / 2
    assert row[3] == "2"
    assert row[4].startswith(f"{math.exp(mean):.2f} · {mean:.3f} ±")
    assert "+0.100 [" in row[5]


# ---------------------------------------------------------------- dashes and captions


def test_what_could_not_be_computed_is_a_dash_with_its_footnote() -> None:
    for text in (render(example(), "md"), shown(example()), shown(example(), 80)):
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
    assert row[5:-1] == ["– [1]", "– [1]", "– [2]", "– [3]"]
    assert text.count("[1] unsupported") == 1
    assert "[2] oom: out of memory" in text
    assert "[3] diverged: the model's output" in text


def test_the_table_says_on_what_its_numbers_rest(judged: list[Cell]) -> None:
    for text in (render(judged, "md"), shown(judged), render(judged, "latex"), shown(judged, 80)):
        for part in (
            *("sotu", "fixed-targets", "test split", "128 targets in 24 documents", "S = 2", "11111111", "L = 64"),
            *("512 tokens", "nats/token", "erplexity", "standard deviation", "95", "same weights at 1x"),
        ):
            assert part in flat(text), part


def test_notes_of_the_corpus_reach_the_table() -> None:
    cells = aggregate([record(5.0, notes=["The corpus has only 1 document: cut into 20 contiguous pieces."])])
    for text in (render(cells, "md"), shown(cells), render(cells, "latex")):
        assert "cut into 20 contiguous pieces" in text


def test_a_pipe_in_a_label_does_not_break_a_row() -> None:
    _, row = markdown_rows(render(aggregate([record(5.0, label="a|b")]), "md"))
    assert row[0] == "a\\|b"


def test_models_of_unlike_contexts_stand_under_tokens_not_multiples() -> None:
    long = {"base_context": 128, "train_context": 128, "config_sha256": "99" * 32, "label": "rope-long"}
    cells = aggregate([record(5.0), record(5.5, length=128), record(4.9, length=128, **long)])
    head, *rows = markdown_rows(render(cells, "md"))
    assert head[4:] == ["64", "128", "usable"]
    assert [row[0] for row in rows] == ["rope (L = 64)", "rope-long (L = 128)"]
    assert rows[1][5] == "134.3 · 4.900"  # its own 1x: no change beside it


def test_a_bfloat16_evaluation_says_so() -> None:
    cells = aggregate([record(5.0), record(5.1, dtype="bfloat16")])
    _, *rows = markdown_rows(render(cells, "md"))
    assert [row[0] for row in rows] == ["rope", "rope (bfloat16)"]


def test_a_fine_tune_stands_below_its_model_and_says_what_it_was_trained_with() -> None:
    tuned = {"config_sha256": "77" * 32, "parent_sha256": "33" * 32, "train_context": 256, "train_extension": "pi(s=4)"}
    records = [
        record(5.0),
        record(4.5, **OTHER),
        record(4.8, extension="trained", length=256, label="rope-tuned", run="rope-tuned", **tuned),
    ]
    text = render(aggregate(records), "md")
    _, *rows = markdown_rows(text)
    assert [row[:2] for row in rows] == [["rope", "none"], ["rope-tuned", "pi(s=4) (trained)"], ["alibi", "none"]]
    assert "fine-tuned at 256" in text


# ---------------------------------------------------------------- terminals and pipes


def grid_heads(text: str) -> bool:
    return "params" in text and "64 (1x)" in text and "change, 95 % interval" not in text


def table_lines(text: str, heads: str = "context") -> list[str]:
    """The one table in what a terminal gets, from its heads to the line before its remarks."""
    lines = text.splitlines()
    first = next(n for n, line in enumerate(lines) if re.match(rf"[ ┃]*{heads} ", line))
    last = next((n for n, line in enumerate(lines) if n > first and re.match(r"\[1\]|The same|Protocol", line)), None)
    return lines[first:last]


BETWEEN = "(?: +│ +| {3,})"  # columns: a line, or three blanks


def line_of(context: str, *parts: str) -> str:
    """A pattern of the line that begins with this length, two blanks in, and has these patterns and no more."""
    return rf"(?m)^(?:│ | {{0,2}})  {BETWEEN.join((re.escape(context), *parts))}[ │]*$"


def values(cell: Cell) -> list[str]:
    """Patterns of what a narrow terminal says of a number, from nats to the verdict."""
    assert cell.nats_per_token is not None
    spread = "" if cell.spread is None else f" ±{cell.spread:.3f}"
    parts = [re.escape(f"{cell.nats_per_token:.3f}{spread}"), r"[\d.,e+]+"]
    if not cell.is_control:
        assert cell.interval is not None
        parts += [re.escape(f"{cell.delta:+.3f} {printed(cell.interval.family)}"), cell.verdict]
    return parts


def parts_of(text: str) -> dict[str, str]:
    """The lines of numbers in the long form on a terminal, by all that stands above them, blanks taken away."""
    body = "\n".join(table_lines(text)[2:])  # below the heads and their line
    found = {}
    for part in re.split(r"(?m)^(?:[├└].*| *)$", body):
        lines = part.strip("\n").splitlines()
        first = next((n for n, line in enumerate(lines) if re.match(r"[│ ]*  \d+ \(\d+x\)", line)), None)
        if first is not None:
            found[bare("".join(lines[:first]))] = "\n".join(lines[first:])
    return found


ABOVE = {
    "judged": {"rope": "3seeds,usable256", "rope+pi": "3seeds,usable256?", "alibi": "1seed,usable64"},
    "ordinary": dict.fromkeys(("sinusoidal-concat", "rope", "rope+ntk(s=4)"), "5seeds,usable128"),
}


def ordinary(folder: Path) -> list[Cell]:
    """What a sweep makes: five seeds, four lengths, names as long as those of posx."""
    shelf = Shelf(folder)
    for name, extension in (("sinusoidal-concat", "none"), ("rope", "none"), ("rope", "ntk(s=4)")):
        own = {"label": name, "scheme": name, "config_sha256": name.encode().hex().ljust(64, "0")[:64]}
        shelf.row({128: (-0.05, 0.005), 256: (1.2, 0.1), 512: (2.5, 0.4)}, seeds=5, extension=extension, **own)
    return aggregate(shelf.records)


@pytest.mark.parametrize("width", [80, 90, 100, 120])
@pytest.mark.parametrize("which", ["judged", "ordinary"])
def test_a_narrow_terminal_has_every_number_on_the_line_of_its_length(
    tmp_path: Path, judged: list[Cell], which: str, width: int
) -> None:
    """Below its own name, and beside no name: 3.965 would stand beside "usable 256"."""
    cells = judged if which == "judged" else ordinary(tmp_path)
    text = shown(cells, width)
    parts = parts_of(text)
    assert list(parts) == [f"{name}{told}" for name, told in ABOVE[which].items()], text
    lines = 0
    for cell in cells:
        name = cell.group.label + ("" if cell.group.extension == "none" else f"+{cell.group.extension}")
        part = parts[f"{name}{ABOVE[which][name]}"]
        line = line_of(f"{cell.length} ({cell.length // 64}x)", *(values(cell) if cell.ok else [r"– \[1\]"]))
        assert len(re.findall(line, part)) == 1, f"{name}, {cell.length}"
        lines += 1
    assert sum(len(part.splitlines()) for part in parts.values()) == lines


@pytest.mark.parametrize("width", [80, 90, 100, 120])
def test_a_narrow_terminal_cuts_no_ordinary_name(tmp_path: Path, width: int) -> None:
    """82 columns with lines, 79 without them and with names of 16: at 80 only what is longer may be folded."""
    text = shown(ordinary(tmp_path), width)
    assert "…" not in text
    assert ("┏" in text, "│" in text) == (width > 80, width > 80)
    assert list(parts_of(text)) == [f"{name}{told}" for name, told in ABOVE["ordinary"].items()]
    for name in ("rope", "rope + ntk(s=4)", *(("sinusoidal-concat", "5 seeds, usable 128") if width > 80 else ())):
        line = rf"(?m)^(?:│ | {{0,2}}){re.escape(name)}[ │]*$"
        assert len(re.findall(line, text)) == (3 if "seeds" in name else 1), name
    assert max(map(len, table_lines(text))) <= width


def test_a_name_wider_than_its_column_is_folded_and_not_cut(tmp_path: Path) -> None:
    """One word of 33 letters: its numbers fit beside 16 columns of it."""
    name = "sinusoidal-concatenated-and-tuned"
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.02)}, seeds=3, **(ROPE | {"label": name}))
    cells = aggregate(shelf.records)
    text = shown(cells, 80)
    assert "…" not in text
    assert "│" not in text
    ((above, part),) = parts_of(text).items()
    assert above == f"{name}3seeds,usable64"
    for cell in cells:
        assert re.search(line_of(f"{cell.length} ({cell.length // 64}x)", *values(cell)), part)


def vast(folder: Path) -> list[Cell]:
    """+12.5 nats and a perplexity of 1.4e+07 at 16x, as a learned embedding has them; a name of one word."""
    shelf = Shelf(folder)
    shelf.row({1024: (12.5, 0.2)}, seeds=5, **(ROPE | {"label": "sinusoidal-concat"}))
    return aggregate(shelf.records)


def listed(text: str) -> list[list[list[str]]]:
    """The heads and values of a list, a list for each row: between blank lines."""
    blocks = [block.splitlines() for block in re.split(r"\n *\n", text)]
    parts = [[re.split("  +", line.strip(), maxsplit=1) for line in block] for block in blocks]
    return [[pair for pair in block if len(pair) == 2] for block in parts]  # names stand alone above their rows


def test_a_narrow_terminal_cuts_no_vast_number(tmp_path: Path) -> None:
    """86 columns are too many for 80, even without lines: a list of values for each length."""
    cells = vast(tmp_path)
    text = shown(cells, 80)
    assert "…" not in text
    assert not set("┃│─") & set(text)
    assert re.search(r"(?m)(?:^|  )sinusoidal-concat *$", text)
    assert re.search(r"(?m)(?:^|  )5 seeds, usable 64 *$", text)
    heads = long_form(sheets(cells)[0]).heads
    for cell, context in zip(cells, ("64 (1x)", "1024 (16x)"), strict=True):
        (block,) = [block for block in listed(text) if ["context", context] in block]
        assert [head for head, _ in block] == heads[: len(block)]
        for (_, value), pattern in zip(block, [re.escape(context), *values(cell)], strict=True):
            assert re.fullmatch(pattern, value), value
    places = [text.index(part) for part in ("sinusoidal-concat", "5 seeds, usable 64", "64 (1x)", "1024 (16x)")]
    assert places == sorted(places)
    assert max(len(line.rstrip()) for line in text.partition("The same targets")[0].splitlines()) <= 80


def test_a_list_calls_nothing_but_a_length_a_context(tmp_path: Path) -> None:
    """The name of a row, and its seeds, stand in the column of the contexts: they are none."""
    found = re.findall(r"(?m)^context +(.*?) *$", shown(vast(tmp_path), 80))
    assert found == ["64 (1x)", "1024 (16x)"]


@pytest.mark.parametrize("which, rows", [("gain", 2), ("all", 5), ("curve", 1)])
def test_a_narrow_terminal_cuts_no_other_table(
    tmp_path: Path, attainable: list[Cell], protocol_cells: list[Cell], which: str, rows: int
) -> None:
    """Shares, protocols side by side, and curves by context, of four octaves past L, have names and numbers too."""
    cells = {"gain": attainable, "all": protocol_cells}.get(which)
    if cells is None:
        shelf = Shelf(tmp_path)
        shelf.curve(np.linspace(6, 4, 6 * 256), 256, [1, 3, 2], **ROPE)
        cells = aggregate(shelf.records)
    text = shown(cells, 80, side_by_side=which == "all")
    assert "…" not in text
    found = pages(cells, which == "all", 80)
    for page in found:
        for row in page.rows:
            for entry in row:
                assert all(bare(line) in bare(text) for line in entry.lines), entry.text
        for note in page.notes:
            assert note in text
    # The last is a list: every value beside its head, in order, and none without the name of its row.
    page = found[-1]
    below = text.partition(page.title)[2].partition(page.notes[0])[0]
    assert not set("┃│─") & set(below)
    assert max(len(line.rstrip()) for line in below.splitlines()) <= 80
    blocks = [[part for part in block if len(part) == 2] for block in listed(below)]
    blocks = [block for block in blocks if block]
    assert len(blocks) == len(page.rows) == rows
    names: list[str] = []
    for row, block in zip(page.rows, blocks, strict=True):
        names = [one.text or above for one, above in zip(row, names or ["", ""], strict=False)]
        texts = [*names, *(one.text for one in row[2:])]
        assert all(names)
        assert block == [[head, value] for head, value in zip(page.heads, texts, strict=True) if value]


@pytest.mark.parametrize("no_colour", ["1", ""])
def test_a_terminal_without_colours_is_still_a_terminal(tmp_path: Path, no_colour: str) -> None:
    """NO_COLOR takes colours away, and not the numbers: 80 columns are no pipe."""
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.02), 256: (0.2, 0.02)}, seeds=3, **ROPE)
    pty = pytest.importorskip("pty")
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": no_colour}
    main, child = pty.openpty()
    command = [sys.executable, "-m", "posx", "table", "--runs-dir", str(tmp_path)]
    parts = [b""]
    with subprocess.Popen(command, stdout=child, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(child)
        try:
            while part := os.read(main, 1 << 16):
                parts.append(part)
        except OSError:  # the other end is closed
            pass
    os.close(main)
    assert process.returncode == 0
    text = b"".join(parts).decode()
    assert ("\x1b[" in text) == (not no_colour)
    assert "change, 95 % interval" in text
    assert "…" not in text


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_a_terminal_gets_every_number_and_name_whole_whatever_its_width(judged: list[Cell], width: int) -> None:
    """One too narrow for the grid gets a row for each number."""
    text = shown(judged, width)
    assert ("change, 95 % interval" in text) == (width < 160)
    assert grid_heads(text) == (width >= 160)
    assert max(map(len, table_lines(text, "scheme" if width >= 160 else "context"))) <= width
    assert "…" not in text
    names = ("none", "pi") if width >= 160 else ("rope + pi",)  # a narrow one says no "none"
    for word in ("rope", "alibi", *names, "uses", "survives", "breaks", "undecided", "– [1]"):
        assert word in text, word
    for cell in judged:
        if cell.nats_per_token is None:
            continue
        assert f"{cell.nats_per_token:.3f}" in text
        if cell.interval is not None:
            assert printed(cell.interval.family) in text


def test_a_row_for_each_number_says_what_the_grid_says(judged: list[Cell]) -> None:
    (sheet,) = sheets(judged)
    wide, narrow = grid(sheet), long_form(sheet)
    assert len(judged) == 8
    assert len(narrow.rows) == 8 + 2 * 3  # a name, and its seeds, above the numbers of each of three
    assert narrow.heads == ["context", "nats/token", "ppl", "change, 95 % interval", "verdict"]
    assert narrow.left == 1
    assert narrow.sections == {6, 9}
    entries = {}
    for name, above, rows in named_rows(narrow):
        seeds_, usable = re.fullmatch(r"(.+) seeds?, usable (.+)", above).groups()  # type: ignore[union-attr]
        for row in rows:
            context = row[0].text.strip()
            assert (name, context) not in entries
            entries[name, context] = [one.text for one in row[1:]], seeds_, usable
    assert len(entries) == 8
    assert entries["rope", "512 (8x)"][0][-1] == "breaks"
    assert entries["rope + pi", "256 (4x)"][0][-1] == "undecided"
    assert entries["alibi", "512 (8x)"][0] == ["– [1]", "", "", ""]
    for row in wide.rows:
        for head, one in zip(wide.heads[4:-1], row[4:-1], strict=True):
            if not one.text:
                continue
            name = row[0].text + ("" if row[1].text == "none" else f" + {row[1].text}")
            (nats, ppl, change, verdict), *told = entries[name, head]
            assert told == [row[3].text, row[-1].text]
            if one.text.startswith("–"):
                continue
            again = (f"{ppl} · {nats}", *((change, verdict) if change else ()))
            assert one.lines == again


def test_the_row_for_each_number_has_the_usable_context_too(judged: list[Cell]) -> None:
    """The issue: "the table then shows … usable context, one number for each scheme × extension"."""
    page = long_form(sheets(judged)[0])
    assert "256?" in " ".join(one.text for row in page.rows for one in row) + " ".join(page.notes)


@pytest.mark.parametrize("lengths", [2, 7, 12])
def test_a_pipe_gets_the_grid(tmp_path: Path, lengths: int) -> None:
    shelf = Shelf(tmp_path)
    shelf.row({64 * 2**n: (0.1, 0.02) for n in range(1, lengths)}, seeds=3, **ROPE)
    text = posx("table", "--runs-dir", tmp_path).stdout
    assert grid_heads(text), text.splitlines()[3]
    assert f"{64 * 2 ** (lengths - 1)} ({2 ** (lengths - 1)}x)" in text
    assert "…" not in text
    assert "\x1b" not in text


def test_colours_say_the_verdict(judged: list[Cell]) -> None:
    out = io.StringIO()
    show(judged, Console(file=out, width=200, highlight=False, force_terminal=True, color_system="standard"))
    text = out.getvalue()
    for verdict, code in (("uses", 32), ("breaks", 31), ("undecided", 33)):
        assert re.search(rf"\x1b\[{code}m *{verdict}\x1b\[0m", text), verdict
    assert not re.search(r"\x1b\[\d+m *survives", text)


# ---------------------------------------------------------------- csv and json


def test_csv_reads_back_a_row_a_cell_with_every_field(judged: list[Cell]) -> None:
    rows = list(csv.DictReader(io.StringIO(render(judged, "csv"))))
    assert len(rows) == len(judged) == 8
    wanted = {f.name for f in fields(Record)} - {"path"}
    derived = "seeds nats_per_token spread ppl bpb multiple delta deltas interval verdict usable_context share cells"
    assert wanted | set(derived.split()) <= set(rows[0])
    assert None not in rows[0]  # no row is longer than the head
    row = next(r for r in rows if (r["length"], r["extension"], r["label"]) == ("128", "none", "rope"))
    records = [r for c in judged for r in c.records if (r.length, r.extension, r.label) == (128, "none", "rope")]
    assert len(records) == 3
    # What differs between the seeds is a list in their order; the rest of the record is there as it is.
    for name in ("run", "seed", "nats", "checkpoint_sha256"):
        assert json.loads(row[name]) == [getattr(r, name) for r in records], name
    assert json.loads(row["seeds"]) == [0, 1, 2]
    assert json.loads(row["cells"]) == [r.key for r in records]
    per_seed = {"run", "seed", "nats", "checkpoint_sha256", "seconds", "tokens_per_second", "peak_memory_bytes"}
    for name in wanted - per_seed:
        value = getattr(records[0], name)
        found: Any = row[name]
        if isinstance(value, dict | list):
            found = json.loads(found)
        elif value is None:
            value = ""
        elif not isinstance(value, str):
            found = type(value)(found)
        assert found == value, name
    kept = [r.nats / TARGETS for r in records if r.nats is not None]
    assert float(row["nats_per_token"]) == pytest.approx(sum(kept) / 3, rel=1e-12)
    assert float(row["ppl"]) == pytest.approx(math.exp(sum(kept) / 3))
    assert float(row["delta"]) == pytest.approx(-0.05, abs=1e-6)
    assert json.loads(row["deltas"]) == pytest.approx([-0.051, -0.05, -0.049], abs=1e-6)
    low, high = json.loads(row["interval"])
    alone = json.loads(row["interval_alone"])
    assert low < alone[0] < -0.05 < alone[1] < high < 0
    assert row["verdict"] == "uses"
    failed = next(r for r in rows if r["status"] == "unsupported")
    assert [failed[k] for k in ("ppl", "delta", "interval", "nats_per_token", "verdict")] == [""] * 5
    assert failed["reason"] == "learned positions end at 64. Try --extension interpolate."


def test_csv_survives_what_csv_is_made_of() -> None:
    label = 'a,"b"\nc;\t|'
    rows = list(
        csv.DictReader(io.StringIO(render(aggregate([record(5.0, label=label), record(5.1, length=128)]), "csv")))
    )
    assert [r["label"] for r in rows] == [label, "rope"]


def test_json_is_an_array_of_cells(judged: list[Cell]) -> None:
    cells = json.loads(render(judged, "json"))
    assert len(cells) == 8
    named = "seeds nats_per_token ppl bpb multiple delta interval verdict scheme extension length status"
    assert all(set(named.split()) <= cell.keys() for cell in cells)
    assert all({f.name for f in fields(Record)} - {"path"} <= cell.keys() for cell in cells)
    at = {(c["label"], c["extension"], c["length"]): c for c in cells}
    one = at["rope", "none", 512]
    nats = sum(float(hardness(seed).mean()) for seed in range(3)) / 3 + 1.0
    assert one["seeds"] == one["seed"] == [0, 1, 2]
    assert one["run"] == ["rope-seed0", "rope-seed1", "rope-seed2"]
    assert one["nats_per_token"] == pytest.approx(nats, abs=1e-6)
    assert one["ppl"] == pytest.approx(math.exp(nats), rel=1e-6)
    assert one["bpb"] == pytest.approx(nats * TARGETS / math.log(2) / (3 * TARGETS), abs=1e-6)
    assert one["multiple"] == 8.0
    assert one["delta"] == pytest.approx(1.0, abs=1e-6)
    assert one["interval"][0] < 1.0 < one["interval"][1]
    assert one["verdict"] == "breaks"
    assert one["usable_context"] == 256
    control = at["rope", "none", 64]
    assert (control["delta"], control["interval"], control["verdict"]) == (0.0, None, "")
    failed = at["alibi", "none", 512]
    empty = [failed[key] for key in ("nats_per_token", "ppl", "bpb", "delta", "interval", "seeds")]
    assert empty == [None, None, None, None, None, []]


def test_json_measures_multiples_in_the_training_context() -> None:
    """``multiple`` of the training context. L = 64, and so 96 tokens are 1.5x."""
    (cell,) = json.loads(render(aggregate([record(5.0, length=96)]), "json"))
    assert cell["multiple"] == 1.5


# ---------------------------------------------------------------- latex

NASTY = "50%_of {x} & $y$ #1 ~ ^ \\z"
LABELS = (NASTY, "a_b%c&$#{}~^\\", "[0.5ex] x", "*star", "a--b", "<a> | b")


def nasty() -> list[Cell]:
    """A row for each label; one cannot, one has a change."""
    records = []
    for number, label in enumerate(LABELS):
        own = {"label": label, "config_sha256": f"{number:032x}" * 2, "run": f"r{number}"}
        records += [record(5.0, **own), record(5.5, length=128, **own), record(None, length=256, **own)]
    return aggregate(records)


def unescaped(text: str) -> str:
    """``text`` without its escaped signs."""
    return re.sub(r"\\[&%$#_{}]", "", text)


def body_rows(text: str) -> list[str]:
    """The rows between the rules, escaped signs taken away."""
    inside = text.split("\\midrule\n")[1].split("\\bottomrule")[0]
    return [line for line in unescaped(inside).splitlines() if not line.startswith("\\addlinespace")]


@pytest.mark.parametrize("which", ["nasty", "judged", "gain", "all"])
def test_latex_is_balanced_and_every_row_has_every_column(
    which: str, judged: list[Cell], attainable: list[Cell], protocol_cells: list[Cell]
) -> None:
    cells = {"nasty": nasty(), "judged": judged, "gain": attainable, "all": protocol_cells}[which]
    text = render(cells, "latex", side_by_side=which == "all")
    number = 2 if which == "gain" else 1
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == number
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == number
    assert text.count("% needs \\usepackage{booktabs} and \\usepackage{graphicx}\n") == number
    assert "\\hline" not in text
    for one in text.split("% needs \\usepackage{booktabs} and \\usepackage{graphicx}\n")[1:]:
        # The one comment there is: it keeps the box around the table from beginning with a blank.
        assert one.count("{!}{%\n") == 1
        bare = unescaped(one.replace("{!}{%\n", "{!}{\n"))
        depth = 0
        for sign in bare:
            depth += {"{": 1, "}": -1}.get(sign, 0)
            assert depth >= 0
        assert depth == 0
        for sign in "%#_":
            assert sign not in bare
        assert bare.count("$") % 2 == 0
        columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", one)
        assert columns is not None
        rows = body_rows(one)
        head = unescaped(one.split("\\toprule\n")[1].split("\\midrule")[0]).strip()
        assert all(row.endswith(("\\\\", "\\\\*")) for row in [head, *rows])
        assert {row.count("&") for row in [head, *rows]} == {len(columns.group(1)) - 1}
        caption = re.search(r"\\caption\{(.+)\}\n", one)
        assert caption is not None
        assert one.index("\\caption") < one.index("\\begin{tabular}")


def test_labels_are_set_as_they_are_written() -> None:
    text = render(nasty(), "latex")
    assert r"50\%\_of \{x\} \& \$y\$ \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}z & none &" in text
    assert r"a\_b\%c\&\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{} & none &" in text


def test_signs_that_the_old_font_encoding_sets_as_others_are_named() -> None:
    """In OT1, LaTeX's default, < > | come out as ¡ ¿ —, and -- as –."""
    names = [row.split("&")[0].strip() for row in body_rows(render(nasty(), "latex"))]
    assert r"\textless{}a\textgreater{} \textbar{} b" in names
    assert "a-{}-b" in names
    assert "a--b" not in names


@pytest.mark.parametrize(
    "text, wanted",
    [
        *(("[0.5ex] x", "{[0.5ex] x}"), ("*star", "{*star}"), ("[1] why", "{[1] why}"), ("a [1] *", "a [1] *")),
        *(("a--b", "a-{}-b"), ("---", "-{}-{}-"), ("--extension", "-{}-extension"), ("a-b", "a-b"), ("1–3", "1--3")),
        *(("a|b", r"a\textbar{}b"), ("–", "--"), ("– [1]", "-- [1]")),
        *(
            ("-0.050 [-0.056, -0.044]", "$-$0.050 [$-$0.056, $-$0.044]"),
            ("-50% [-53%, +2%]", r"$-$50\% [$-$53\%, +2\%]"),
        ),
        *(("1.2e-05", "1.2e-05"), ("rope-500k", "rope-500k"), ("2024-01-02", "2024-01-02"), ("A − B", "A $-$ B")),
        *(("non-overlapping", "non-overlapping"), ("ntk(s=-1)", "ntk(s=$-$1)")),
    ],
)
def test_each_text_is_set_as_it_is_meant(text: str, wanted: str) -> None:
    assert tex(text) == wanted


def test_negative_numbers_have_a_minus(judged: list[Cell], attainable: list[Cell], protocol_cells: list[Cell]) -> None:
    """A hyphen before a number is too short. Perplexities of a share, of a change in per cent, of an interval."""
    for cells, least in ((judged, 4), (attainable, 4), (protocol_cells, 4)):
        text = render(cells, "latex", side_by_side=cells is protocol_cells)
        assert re.findall(r"(?<![\w$)-])-\d", text) == []
        assert len(re.findall(r"\$-\$\d", text)) >= least


@pytest.mark.parametrize("sign", ["[", "*"])
def test_no_row_begins_with_what_the_end_of_a_row_would_take_for_itself(sign: str) -> None:
    r"""``\\`` and ``\\*`` look past the line's end for [length], and ``\\`` for a star; so does \addlinespace."""
    rows = body_rows(render(nasty(), "latex"))
    assert any("[0.5ex] x" in row for row in rows)
    assert any("*star" in row for row in rows)
    assert [row for row in rows if row.lstrip().startswith(sign)] == []


@pytest.mark.parametrize("label", ["[0.5ex] x", "  [0.5ex] x", "*star", "  *star"])
def test_latex_looks_for_arguments_past_blanks(label: str) -> None:
    (row,) = body_rows(render(aggregate([record(5.0, label=label)]), "latex"))
    assert label.strip() in row
    assert not row.lstrip().startswith(("[", "*")), row


def test_the_caption_has_units_and_protocol(judged: list[Cell]) -> None:
    caption = re.search(r"\\caption\{(.+)\}\n", render(judged, "latex"))
    assert caption is not None
    for part in (
        *(r"Perplexity $\cdot$ nats/token", "in tokens", "fixed-targets", "test split", "128 targets in 24 documents"),
        *("L = 64", "S = 2", "targets 11111111", r"95 \% intervals", "nats a token", "[1] unsupported"),
    ):
        assert part in caption.group(1), part


def test_a_latex_cell_has_all_that_a_markdown_cell_has(judged: list[Cell]) -> None:
    text = render(judged, "latex")
    rows = [[part.strip() for part in row.rstrip("\\*").split("&")] for row in body_rows(text)]
    for cell in judged:
        if cell.nats_per_token is None or cell.ppl is None:
            continue
        assert any(f"{cell.nats_per_token:.3f}" in part for row in rows for part in row)
        if cell.interval is not None and cell.delta is not None:
            change = f"{cell.delta:+.3f} {printed(cell.interval.family)}"
            assert f"{{\\footnotesize {change.replace('-', '$-$')}}}" in text
    for verdict in ("uses", "survives", "breaks", "undecided"):
        assert f"{{\\footnotesize {verdict}}}" in text


@pytest.mark.parametrize("which", ["example", "judged", "gain", "all"])
def test_latex_holds_nothing_that_plain_latex_cannot_set(
    which: str, judged: list[Cell], attainable: list[Cell], protocol_cells: list[Cell]
) -> None:
    cells = {"example": example(), "judged": judged, "gain": attainable, "all": protocol_cells}[which]
    text = render(cells, "latex", side_by_side=which == "all")
    assert [sign for sign in text if ord(sign) > 127] == []


TEX = next((name for name in ("pdflatex", "lualatex", "xelatex", "tectonic") if shutil.which(name)), None)


@pytest.mark.skipif(TEX is None, reason="no TeX on PATH (pdflatex, lualatex, xelatex, tectonic)")
@pytest.mark.parametrize("which", ["nasty", "judged", "gain", "all"])
def test_a_paper_with_the_table_compiles(
    tmp_path: Path, which: str, judged: list[Cell], attainable: list[Cell], protocol_cells: list[Cell]
) -> None:
    cells = {"nasty": nasty(), "judged": judged, "gain": attainable, "all": protocol_cells}[which]
    table = render(cells, "latex", side_by_side=which == "all")
    packages = "\\usepackage{booktabs}\n\\usepackage{graphicx}\n"
    paper = f"\\documentclass{{article}}\n{packages}\\begin{{document}}\n{table}\\end{{document}}\n"
    (tmp_path / "paper.tex").write_text(paper, "utf-8")
    options = [] if TEX == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([str(TEX), *options, "paper.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000


# ---------------------------------------------------------------- values past all numbers


@pytest.mark.parametrize("nats", [800.0, 1e6])
def test_a_perplexity_past_all_numbers_crashes_no_format(nats: float) -> None:
    cells = aggregate([record(5.0), record(nats, length=128)])
    assert only(cells, length=128).ppl == math.inf
    assert "∞" in render(cells, "md")
    assert r"$\infty$" in render(cells, "latex")
    assert "∞" in shown(cells)
    assert "∞" in shown(cells, 60)
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


# ---------------------------------------------------------------- attainable gain


@pytest.fixture(scope="module")
def attainable(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    """At 256: 0.40 nats to gain, of which pi gains 0.10 and alibi has no control; none loses 0.20. Two seeds."""
    shelf = Shelf(tmp_path_factory.mktemp("attainable"))
    for seed in range(2):
        base, own = hardness(seed), {"seed": seed, "recipe_sha256": RECIPE}
        shelf.put(base, **own, **ROPE)
        shelf.put(base + by_document(0.20, 0.02, seed=1), length=256, **own, **ROPE)
        shelf.put(base + by_document(-0.10, 0.02, seed=2), length=256, extension="pi", **own, **ROPE)
        shelf.put(base + by_document(-0.40, 0.02, seed=3), length=256, **own, **LONG, run=f"rope-long-seed{seed}")
        shelf.put(base + by_document(-0.05, 0.02, seed=4), length=64, **own, **LONG, run=f"rope-long-seed{seed}")
    shelf.row({256: (-0.01, 0.002)}, **ALIBI)
    return aggregate(shelf.records)


def test_the_share_of_the_attainable_gain_is_as_the_protocol_defines_it(attainable: list[Cell]) -> None:
    """(nats(1x) − nats(ℓ)) / (nats(1x) − nats_long(ℓ)): 0.10/0.40 = 25 % for pi, −0.20/0.40 = −50 % without."""
    page = gain(sheets(attainable)[0])
    assert page is not None
    rows = [[entry.text for entry in row] for row in page.rows]
    assert page.heads[-3:] == ["attainable", "long's own gain", "share"]
    base = (hardness(0).mean() + hardness(1).mean()) / 2
    # The long model's own nats(L) − nats(ℓ) = −0.05 + 0.40.
    for row, name, change, share in ((rows[0], "none", 0.20, -50), (rows[1], "pi", -0.10, 25)):
        assert row[:2] == ["rope", name]
        assert row[2].startswith("256")
        assert row[3] == "2"
        assert row[4:7] == [f"{base:.3f}", f"{base + change:.3f}", f"{base - 0.40:.3f}"]
        assert row[7].startswith("+0.400 [+0.3")
        assert row[8] == "+0.350"
        found = re.fullmatch(r"(-?\d+)% \[(-?\d+)%, (-?\d+)%\]", row[9])
        assert found is not None, row[9]
        value, low, high = map(int, found.groups())
        assert value == share
        assert low < value < high
        assert high - low < 30
    assert len(rows) == 2  # alibi has no control, and the control needs none
    notes = flat(" ".join(page.notes))
    assert "Rank by nats, never by the share" in notes
    assert "trained at ℓ from scratch" in notes


def test_all_formats_show_the_share(attainable: list[Cell]) -> None:
    md = render(attainable, "md")
    assert "Share of the attainable gain" in md
    assert "| 25% [" in md
    assert r"25\% [" in render(attainable, "latex")
    assert re.search(r"25% \[", shown(attainable))
    at = {(c["label"], c["extension"], c["length"]): c for c in json.loads(render(attainable, "json"))}
    one = at["rope", "pi", 256]
    assert one["share"] == pytest.approx(0.25, abs=1e-5)
    assert one["attainable"] == pytest.approx(0.40, abs=1e-5)
    assert one["share_interval"][0] < 0.25 < one["share_interval"][1]
    assert at["alibi", "none", 256]["share"] is None
    rows = list(csv.DictReader(io.StringIO(render(attainable, "csv"))))
    assert [float(r["share"]) for r in rows if r["extension"] == "pi"] == pytest.approx([0.25], abs=1e-5)


def test_controls_are_no_row_of_the_grid(attainable: list[Cell]) -> None:
    _, *rows = markdown_rows(render(attainable, "md").split("Share of the attainable gain")[0])
    assert [row[:2] for row in rows] == [["rope", "none"], ["rope", "pi"], ["alibi", "none"]]


def test_a_gain_that_is_not_shown_to_be_there_is_a_dash(tmp_path: Path) -> None:
    """The denominator's interval holds 0: no share, but the attainable gain and its interval are shown."""
    shelf = Shelf(tmp_path)
    base, own = hardness(), {"recipe_sha256": RECIPE}
    shelf.put(base, **own, **ROPE)
    shelf.put(base + by_document(0.2, 0.02, seed=1), length=256, **own, **ROPE)
    shelf.put(base + by_document(-0.01, 0.3, seed=3), length=256, **own, **LONG, run="long")
    page = gain(sheets(aggregate(shelf.records))[0])
    assert page is not None
    (row,) = page.rows
    assert row[-1].text == "–"
    assert re.fullmatch(r"\+0\.010 \[-0\.\d+, \+0\.\d+\]", row[7].text)
    assert row[8].text == "–"  # the long model was not evaluated at L


def test_without_controls_there_is_no_page_of_shares(judged: list[Cell]) -> None:
    assert gain(sheets(judged)[0]) is None
    assert "attainable" not in render(judged, "md")


# ---------------------------------------------------------------- protocols side by side


def protocol_records(folder: Path) -> list[Record]:
    """At 256 rope breaks under fixed-targets (+0.3), and gains under non-overlapping (−0.2)."""
    shelf = Shelf(folder)
    for scheme in (ROPE, ALIBI):
        shelf.row({128: (0.1, 0.01), 256: (0.3, 0.01)}, **scheme)
        other = {"protocol": "non-overlapping", "targets_sha256": "66" * 32, "stride": None, "target_context": None}
        shelf.row({128: (-0.1, 0.01), 256: (-0.2, 0.01)}, level=4.5, **other, **scheme)
        curve = {"protocol": "curve", "targets_sha256": "77" * 32, "stride": None, "target_context": None}
        shelf.row({256: (0.0, 0.01)}, **curve, **scheme)
    shelf.row({256: (0.0, 0.01)}, split="validation", targets_sha256="88" * 32, **ROPE)
    shelf.row({256: (0.05, 0.01)}, protocol="stream", targets_sha256="99" * 32, **ROPE)
    return shelf.records


@pytest.fixture(scope="module")
def protocol_cells(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    return choose(aggregate(protocol_records(tmp_path_factory.mktemp("protocols"))), "all")


def test_side_by_side_shows_what_the_literatures_number_hides(protocol_cells: list[Cell]) -> None:
    text = render(protocol_cells, "md", side_by_side=True)
    head, *rows = markdown_rows(text)
    assert head == ["scheme", "extension", "protocol", "seeds", "64 (1x)", "128 (2x)", "256 (4x)"]
    assert [row[3] for row in rows] == ["1"] * 5
    assert [row[:3] for row in rows] == [
        ["rope", "none", "fixed-targets"],
        ["", "", "non-overlapping"],
        ["", "", "stream"],
        ["alibi", "none", "fixed-targets"],
        ["", "", "non-overlapping"],
    ]
    base = hardness().mean()
    assert rows[0][4] == f"{math.exp(base):.2f}"
    # exp(0.3) − 1 = 35.0 %, exp(−0.2) − 1 = −18.1 %, exp(0.05) − 1 = 5.1 %.
    assert rows[0][6] == f"{math.exp(base + 0.3):.2f} +35.0% breaks"
    assert rows[1][6] == f"{math.exp(base + 0.5 - 0.2):.2f} -18.1% uses"
    assert rows[2][5:] == ["", f"{math.exp(base + 0.05):.2f} +5.1% breaks"]
    below = remarks(text)
    assert "compare changes along a row, not perplexities across rows" in below
    assert "perplexity falls without any use of the longer context" in below
    page = protocols(protocol_cells)
    assert page is not None
    assert page.sections == {3}
    assert page.left == 3


def test_the_protocols_have_their_own_numbers_of_seeds(tmp_path: Path) -> None:
    """Three under fixed-targets; under stream two, and one at 256."""
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.01)}, seeds=3, **ROPE)
    stream = {"protocol": "stream", "targets_sha256": "99" * 32}
    shelf.row({128: (0.1, 0.01)}, seeds=2, **stream, **ROPE)
    shelf.put(hardness(1), seed=1, length=256, **stream, **ROPE)
    head, *rows = markdown_rows(render(aggregate(shelf.records), "md", side_by_side=True))
    assert head[2:4] == ["protocol", "seeds"]
    assert [row[2:4] for row in rows] == [["fixed-targets", "3"], ["stream", "1–2"]]


def test_two_target_sets_of_one_protocol_are_told_apart(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.01)}, **ROPE)
    shelf.row({128: (0.2, 0.01)}, targets_sha256="66" * 32, **ROPE)
    _, *rows = markdown_rows(render(aggregate(shelf.records), "md", side_by_side=True))
    assert [row[2] for row in rows] == ["fixed-targets 111111", "fixed-targets 666666"]


def test_fixed_targets_of_the_test_split_are_the_table_unless_another_is_asked(tmp_path: Path) -> None:
    records = protocol_records(tmp_path)
    cells = aggregate(records)
    assert {(c.comparison.protocol, c.comparison.split) for c in choose(cells, None)} == {("fixed-targets", "test")}
    assert {c.comparison.protocol for c in choose(cells, "stream")} == {"stream"}
    assert {c.comparison.protocol for c in choose(cells, "all")} == {"fixed-targets", "non-overlapping", "stream"}
    some = aggregate([r for r in records if r.protocol != "fixed-targets"])
    assert {c.comparison.protocol for c in choose(some, None)} == {"non-overlapping", "stream"}
    only_validation = aggregate([r for r in records if r.split == "validation"])
    assert choose(only_validation, None) == only_validation


def test_other_protocols_say_that_context_grows(protocol_cells: list[Cell]) -> None:
    text = render(choose(protocol_cells, "non-overlapping"), "md")
    assert "perplexity can fall without use of the longer context" in text
    assert "The same targets at every length" not in text
    assert "S = " not in text


def test_a_curve_is_a_table_by_available_context(tmp_path: Path) -> None:
    """Means over targets by context 1, 2, 3–4, 5–8, …, by plain loops; two seeds, three documents."""
    shelf = Shelf(tmp_path)
    sums: dict[str, list[float]] = {}
    for seed in range(2):
        nll = 6 - np.log(np.tile(np.arange(1, 25), 6)) + 0.1 * np.random.default_rng(seed).standard_normal(144)
        shelf.curve(nll, 24, [1, 3, 2], seed=seed, **ROPE)
        for place, value in enumerate(nll.tolist()):
            context = place % 24 + 1
            for low, high in ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 24)):
                if low <= context <= high:
                    sums.setdefault(f"{low}–{high}" if high > low else f"{low}", []).append(value)
    text = render(aggregate(shelf.records), "md")
    head, row = markdown_rows(text)
    assert head == ["scheme", "extension", *sums]
    assert row == ["rope", "none", *(f"{sum(values) / len(values):.3f}" for values in sums.values())]
    assert "Whole windows of 24" in text
    assert "144 targets in 3 documents" in text


# ---------------------------------------------------------------- the command


def test_the_command_prints_and_writes_every_format(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    protocol_records(runs)
    there = ("--runs-dir", runs)
    assert "breaks" in posx("table", *there).stdout
    assert "Also evaluated: curve, non-overlapping, stream (--protocol NAME, or all)." in posx("table", *there).stderr
    assert len(json.loads(posx("table", "--format", "json", *there).stdout)) == 6
    assert len(json.loads(posx("table", "--format", "json", "--protocol", "all", *there).stdout)) == 14
    side = posx("table", "--protocol", "all", *there)
    assert "-18.1% uses" in side.stdout
    assert "Also evaluated: curve" in side.stderr
    for suffix, sign in ((".md", "| --- |"), (".csv", "run,label"), (".tex", "\\toprule"), (".json", "[\n")):
        result = posx("table", "-o", tmp_path / f"t{suffix}", *there)
        assert result.stdout == ""
        assert "Wrote" in result.stderr
        assert sign in (tmp_path / f"t{suffix}").read_text("utf-8")
    rows = list(csv.DictReader(io.StringIO(posx("table", "rope-seed0", "--format", "csv", *there).stdout)))
    assert {row["label"] for row in rows} == {"rope"}
    # The second table of a pipe is also whole.
    assert "curve, test split" in flat(posx("table", "--protocol", "curve", *there).stdout)


def test_a_mistake_is_a_sentence(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record(5.0), record(5.5, length=128))
    there = ("--runs-dir", runs)
    assert "no format 'html'" in refused("table", "--format", "html", *there)
    assert "no protocol 'fixed'" in refused("table", "--protocol", "fixed", *there)
    assert "Did you mean fixed-targets" in refused("table", "--protocol", "fixed-target", *there)
    assert "no evaluations under stream" in refused("table", "--protocol", "stream", *there)
    assert "There are some under fixed-targets" in refused("table", "--protocol", "stream", *there)
    assert "for a terminal" in refused("table", "--format", "rich", "-o", tmp_path / "t.txt", *there)
    assert "no run 'rope-seed1'" in refused("table", "rope-seed1", *there)
    assert "no evaluations" in refused("table", "--runs-dir", tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "cannot be written" in refused("table", "-o", tmp_path / "file" / "t.md", *there)
    assert "cannot be written" in refused("table", "-o", tmp_path, "--format", "md", *there)


def test_only_a_curve_is_a_sentence_that_names_it(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record(5.0, protocol="curve"))
    assert "There are some under curve." in refused("table", "--runs-dir", runs)


def test_records_without_their_losses_keep_their_numbers(tmp_path: Path) -> None:
    runs = stored(tmp_path / "runs", record(5.0), record(5.5, length=128))
    text = flat(posx("table", "--runs-dir", runs).stdout)
    assert "148.4 · 5.000" in text
    assert "244.7 · 5.500" in text
    assert "+0.500" in text
    assert "No intervals: the NLL of single targets is not beside the records" in text


def test_without_any_verdict_no_context_is_called_usable(tmp_path: Path) -> None:
    """exp(3) times the perplexity of 1x, and not one interval: 128 must not stand under "usable", nor by a ?."""
    runs = stored(tmp_path / "runs", record(5.0), record(8.0, length=128))
    _, row = markdown_rows(posx("table", "--runs-dir", runs, "--format", "md").stdout)
    assert row[-1] == "–"


def test_damaged_losses_are_a_sentence(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.01)}, **ROPE)
    path = shelf.records[1].path
    assert path is not None
    path.with_suffix(".parquet").write_bytes(b"PAR1")
    assert f"{path.with_suffix('.parquet')} is damaged" in refused("table", "--runs-dir", tmp_path)


def test_pages_follow_the_width(judged: list[Cell]) -> None:
    assert len(pages(judged)) == 1
    assert pages(judged)[0].heads == grid(sheets(judged)[0]).heads
    assert pages(judged, width=50)[0].heads == long_form(sheets(judged)[0]).heads
