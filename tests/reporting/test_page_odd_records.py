"""Tests of ``posx.reporting.page``: odd records."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from fixtures.records import ALIBI, ROPE, Shelf, by_document, hardness
from fixtures.reported import (
    Node,
    answers_of,
    made,  # noqa: F401 - a fixture
    page,  # noqa: F401
    root,  # noqa: F401
    runs,  # noqa: F401 - a fixture
    tables_of,
    tree_of,
)
from fixtures.stored_records import record
from posx.reporting.page import write_report
from posx.results.aggregate import aggregate
from posx.results.records import Record
from posx.utils.format import bounds, signed

torch.set_num_threads(1)


def written(folder: Path, *found: Record, **more: Any) -> Node:
    write_report(list(found), folder, folder / "r.html", **more)
    return tree_of((folder / "r.html").read_text("utf-8"))


def facts(root: Node) -> dict[str, str]:
    (first, _) = root.all("dl")
    return {d.text: e.text for d, e in zip(first.all("dt"), first.all("dd"), strict=True)}


def test_sizes_are_sorted_as_numbers(tmp_path: Path) -> None:
    many = [
        record(4.0, base_context=n, train_context=n, length=n, label=f"r{n}", config_sha256=f"{n:04x}" * 16,
               train_tokens=n * 100, seed=seed, parameters=n * 1000, model="tiny" if n < 512 else "small")
        for n in (128, 64, 512) for seed in (10, 2)
    ]  # fmt: skip
    page = written(tmp_path, *many)
    assert facts(page)["Training contexts"] == "64, 128 and 512 tokens"
    assert facts(page)["Training tokens"] == "6,400, 12,800 and 51,200"
    assert facts(page)["Seeds"] == "2 and 10"
    assert facts(page)["Model"] == "tiny: 64,000 and 128,000 parameters; small: 512,000 parameters"
    assert "at most 64, 128 or 512 tokens at a time" in page.all("header")[0].text


def test_a_report_without_numbers(tmp_path: Path) -> None:
    page = written(tmp_path, *(record(None, length=n) for n in (64, 128)))
    assert "No plots: these results contain nothing to plot." in page.text
    reason = "learned positions end at 64. Try --extension interpolate"
    assert answers_of(page) == [f"rope: no number at 128 ({reason})."]
    assert [row[5].text for row in tables_of(page)[-1].rows] == ["unsupported"] * 2


def test_the_summary_names_verdicts_and_the_worst_change(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for about, changes in (
        (ROPE, {128: 0.155, 256: 0.1, 512: 0.004}),
        (ALIBI, {128: -0.1, 256: 0.003, 512: -0.2}),
        ({"label": "cope", "scheme": "cope", "config_sha256": "77" * 32}, {128: -0.1, 256: 0.003, 512: -0.2}),
    ):
        for length, change in {64: 0.0, **changes}.items():
            shelf.put(hardness() + by_document(change, 0.001, seed=length) * (length > 64), length=length, **about)
    page = written(tmp_path, *shelf.records)
    (worst,) = [c for c in aggregate(shelf.records) if c.length == 128 and c.group.label == "rope"]
    assert worst.interval is not None
    interval = bounds(worst.interval.family)
    assert signed(worst.delta or 0.0) == "+0.155"
    assert re.fullmatch(r"\[\+0\.1[45]\d, \+0\.1[56]\d\]", interval)
    rope, other = sorted(answers_of(page), reverse=True)
    assert rope == (
        f"rope: survives 512; breaks at 128 and 256. Worst: +0.155 nats/token {interval} at 128. "
        "Usable context: 64 tokens."
    )
    assert other == "alibi and cope: uses the longer context at 128 and 512; survives 256. Usable context: 512 tokens."


def test_an_infinite_perplexity(tmp_path: Path) -> None:
    page = written(tmp_path, record(4.0), record(800.0, length=128))
    assert "∞" in tables_of(page)[0].rows[0][5].text


def test_the_validation_split_is_not_mixed_with_test(tmp_path: Path) -> None:
    """`posx recommend` writes validation records; all tables and facts of the page are of the test split."""
    other = {"split": "validation", "targets_sha256": "99" * 32}
    page = written(
        tmp_path, record(4.0), record(4.5, length=128), record(3.0, **other), record(3.5, length=128, **other)
    )
    first = tables_of(page)[0]
    assert len([t for t in tables_of(page) if t.title == first.title]) == 1
    assert [float(c.attributes["data-sort"]) for c in first.rows[0][4:6]] == [4.0, 4.5]
    everything = tables_of(page)[-1]
    assert len(everything.rows) == 4
    row_texts = [" ".join(cell.text for cell in row) for row in everything.rows]
    assert sum("validation" in text for text in row_texts) == 2, "two cells of unlike splits look alike"
    assert Counter(row[3].text for row in everything.rows) == {
        "fixed-targets, test": 2,
        "fixed-targets, validation": 2,
    }
