"""Tests of ``posx.reporting.grouping``."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.records import ALIBI, DOCUMENTS, FEW, ROPE, Shelf, by_document
from fixtures.stored_records import record
from fixtures.table_cells import (
    OTHER,
    flat,
    judged,  # noqa: F401
    markdown_rows,
    protocol_cells,  # noqa: F401
    remarks,
    shown,
)
from posx.reporting.formats import render
from posx.reporting.grouping import choose, sheets
from posx.results.aggregate import aggregate
from posx.results.cells import Cell


def test_different_targets_have_separate_tables() -> None:
    cells = aggregate([record(5.0), record(9.0, targets_sha256="66" * 32, **OTHER)])
    pages = sheets(cells)
    assert [[group.label for group, _ in page.rows] for page in pages] == [["rope"], ["alibi"]]
    for form in ("md", "latex"):
        text = render(cells, form)
        assert "11111111" in text
        assert "66666666" in text
        assert text.count("nats/token by evaluation length") == 2


@pytest.mark.parametrize("change", [{"protocol": "stream"}, {"split": "validation"}, {"data": "text"}])
def test_different_protocols_splits_and_corpora_have_separate_tables(change: dict[str, Any]) -> None:
    assert len(sheets(aggregate([record(5.0), record(6.0, **(OTHER | change))]))) == 2


def test_two_configs_with_the_same_label_are_distinguished() -> None:
    cells = aggregate([record(5.0), record(6.0, config_sha256="ab" * 32, run="other")])
    text = render(cells, "md")
    assert "rope [333333]" in text
    assert "rope [ababab]" in text
    assert len(sheets(cells)[0].rows) == 2


def test_intervals_of_a_table_are_simultaneous_with_the_width_of_students_t(tmp_path: Path) -> None:
    """A single change has Student's interval over documents, one of seven a wider one, which the table prints."""
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
    assert half == pytest.approx(
        2.09 * error * math.sqrt(number / (number - 1)), rel=0.12
    )  # t, 97.5%, 19 degrees of freedom
    for place in range(6):
        shelf.row({128: (0.1, 0.05)}, **(ROPE | {"label": f"r{place}", "config_sha256": f"{place:032x}" * 2}))
    shelf.row({128: (0.1, 0.05), 256: (0.1, 0.05), 512: (0.1, 0.05)}, **ALIBI)
    text = render(aggregate(shelf.records), "md")
    low, high = map(float, re.findall(r"\[([+-]\d\.\d+), ([+-]\d\.\d+)\]", markdown_rows(text)[1][5])[0])
    assert (high - low) / 2 > 1.1 * half
    assert "95% intervals, simultaneous over the 10 changes of this table" in remarks(text)


def test_the_table_states_what_its_intervals_cover(judged: list[Cell]) -> None:
    mixed = remarks(render(judged, "md"))
    assert "Intervals cover document sampling and training variance." in mixed
    assert "Intervals of cells with only one seed cover document sampling only." in mixed
    assert "One seed:" not in mixed
    three = [c for c in judged if c.group.label == "rope"]
    assert "only one seed" not in remarks(render(three, "md"))
    one = [c for c in judged if c.group.label == "alibi"]
    for text in (render(one, "md"), shown(one), render(one, "latex"), shown(one, 80)):
        assert "One seed: intervals cover document sampling, not training variance." in flat(text)
        assert "and training variance" not in text


def test_fewer_than_twenty_documents_give_a_warning(tmp_path: Path, judged: list[Cell]) -> None:
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.05)}, documents=FEW, **ROPE)
    cells = aggregate(shelf.records)
    for text in (render(cells, "md"), shown(cells), render(cells, "latex"), shown(cells, 80)):
        assert "Only 7 documents: too few for reliable intervals" in flat(text)
        assert "in 7 documents" in flat(text)
    assert "too few" not in render(judged, "md")


@pytest.mark.parametrize("number, few", [(19, True), (20, False)])
def test_twenty_documents_give_no_warning(tmp_path: Path, number: int, few: bool) -> None:
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.05)}, documents=np.repeat(np.arange(number), 4), **ROPE)
    assert ("too few for reliable intervals" in render(aggregate(shelf.records), "md")) == few


def test_one_document_gives_no_interval(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.row({128: (0.1, 0.05)}, documents=np.full(9, 4), **ROPE)
    text = render(aggregate(shelf.records), "md")
    assert markdown_rows(text)[1][5].endswith("<br>+0.100")
    assert "all targets are in one document" in remarks(text)


def test_the_table_states_data_targets_and_protocol(judged: list[Cell]) -> None:
    for text in (render(judged, "md"), shown(judged), render(judged, "latex"), shown(judged, 80)):
        for part in (
            *("sotu", "fixed-targets", "test split", "128 targets in 24 documents", "S = 2", "11111111", "L = 64"),
            *("512 tokens", "nats/token", "erplexity", "standard deviation", "95", "same weights at 1x"),
        ):
            assert part in flat(text), part


def test_notes_of_the_corpus_are_in_the_table() -> None:
    cells = aggregate([record(5.0, notes=["The corpus has only 1 document: cut into 20 contiguous pieces."])])
    for text in (render(cells, "md"), shown(cells), render(cells, "latex")):
        assert "cut into 20 contiguous pieces" in text


def test_models_with_different_contexts_have_headings_in_tokens() -> None:
    long = {"base_context": 128, "train_context": 128, "config_sha256": "99" * 32, "label": "rope-long"}
    cells = aggregate([record(5.0), record(5.5, length=128), record(4.9, length=128, **long)])
    head, *rows = markdown_rows(render(cells, "md"))
    assert head[4:] == ["64", "128", "usable"]
    assert [row[0] for row in rows] == ["rope (L = 64)", "rope-long (L = 128)"]
    assert rows[1][5] == "134.3 · 4.900"  # its own 1x has no change


def test_a_bfloat16_evaluation_is_labelled() -> None:
    cells = aggregate([record(5.0), record(5.1, dtype="bfloat16")])
    _, *rows = markdown_rows(render(cells, "md"))
    assert [row[0] for row in rows] == ["rope", "rope (bfloat16)"]


def test_a_fine_tuned_model_follows_its_base_model_with_its_extension() -> None:
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


def test_other_protocols_warn_about_growing_context(protocol_cells: list[Cell]) -> None:
    text = render(choose(protocol_cells, "non-overlapping"), "md")
    assert "perplexity can fall even if the model makes no use of the longer context" in text
    assert "The same targets at every length" not in text
    assert "S = " not in text
