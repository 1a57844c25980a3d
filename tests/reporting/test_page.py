"""Tests of ``posx.reporting.page``."""

from __future__ import annotations

import base64
import math
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

from fixtures.models import posx
from fixtures.reported import (
    HOSTILE,
    LONG,
    TITLE,
    Node,
    answers_of,
    change_meta,
    made,  # noqa: F401
    page,  # noqa: F401
    records,  # noqa: F401
    root,  # noqa: F401
    runs,  # noqa: F401
    tables_of,
    tree_of,
)
from posx.reporting.grouping import Sheet, sheets, without_controls
from posx.reporting.reproduce import commands, evaluate_command
from posx.results.aggregate import aggregate
from posx.results.cells import Cell, Group
from posx.results.records import Record

torch.set_num_threads(1)


def test_the_page_has_all_sections(root: Node) -> None:
    sections = {n.attributes["id"]: n for n in root.all("section")}
    assert list(sections) == ["answer", "setup", "tables", "plots", "costs", "reproduce", "versions"]
    links = [a.attributes["href"] for a in root.all("nav")[0].all("a")]
    assert links == [f"#{name}" for name in sections]
    ids = [n.attributes["id"] for n in root if "id" in n.attributes]
    assert len(ids) == len(set(ids))
    assert root.all("html")[0].attributes == {"lang": "en"}
    metas = [n.attributes for n in root.all("meta")]
    assert {"charset": "utf-8"} in metas
    assert any(m.get("name") == "viewport" and "width=device-width" in m["content"] for m in metas)
    assert "trained on at most 16 tokens at a time" in root.all("header")[0].text
    for section in sections.values():
        assert len(section.text.strip()) > len(section.all("h2")[0].text)


def test_the_page_is_self_contained(page: Path, root: Node) -> None:
    fetching = {"src", "srcset", "href", "poster", "data", "action", "background", "xlink:href", "style"}
    ids = {n.attributes.get("id") for n in root}
    for node in root:
        assert node.tag not in ("link", "iframe", "object", "embed", "base", "video", "audio", "form"), node.tag
        assert not [name for name in node.attributes if name.startswith("on")], node.attributes
        assert node.attributes.get("http-equiv") is None
        for name in fetching & node.attributes.keys():
            value = node.attributes[name]
            if name == "href":
                assert value.startswith("#")
                assert value[1:] in ids
            else:
                assert (node.tag, name) == ("img", "src")
                assert value.startswith("data:image/svg+xml;base64,")
    (style,) = root.all("style")
    (script,) = root.all("script")
    assert "src" not in script.attributes
    for code in (style.text, script.text):
        assert "@import" not in code
        assert "url(" not in code
        assert not re.search(r"https?:|//[a-z]|fetch\(|XMLHttp|import\(", code)
    assert list(page.parent.glob("report*")) == [page]


def test_plots_are_embedded_without_active_content(root: Node) -> None:
    for image in root.all("img"):
        svg = base64.b64decode(image.attributes["src"].partition(",")[2], validate=True).decode("utf-8")
        assert svg.rstrip().endswith("</svg>")
        assert "<script" not in svg
        references = re.findall(r'href="([^"]*)"|url\(([^)]*)\)', svg)
        assert all((a or b).startswith("#") for a, b in references)


def test_labels_and_titles_are_escaped(root: Node, page: Path) -> None:
    text = page.read_text("utf-8")
    assert "<script>alert" not in text
    assert len(root.all("script")) == 1
    assert root.all("h1")[0].text == TITLE
    assert root.all("title")[0].text == TITLE
    grid = tables_of(root)[0]
    assert HOSTILE in {row[0].text for row in grid.rows}
    assert LONG in {row[0].text for row in grid.rows}


def test_the_page_has_every_plot(root: Node) -> None:
    alts = [image.attributes["alt"] for image in root.all("img")]
    starts = (
        "Perplexity by evaluation length",
        "Nats/token by available context",
        "Change from 1x by position",
        "Change from 1x for each document",
        "Share of the gain from training at that length",
        "Change from the base model",
    )
    assert [alt[: len(start)] for alt, start in zip(alts, starts, strict=True)] == list(starts)
    assert [c.text for c in root.all("figcaption")] == alts


def test_a_long_label_leaves_room_for_the_axes(made: tuple[Path, list[str]]) -> None:
    """matplotlib warns if a legend or a label pushes the axes out of the figure."""
    assert [text for text in made[1] if "constrained_layout not applied" in text] == []


def test_the_page_has_every_cell_config_command_and_version(root: Node, runs: Path, records: list[Record]) -> None:
    (cells,) = [t for t in tables_of(root) if t.title == "All cells"]
    keys = Counter(row[0].text for row in cells.rows)
    assert keys == Counter(r.key for r in records)
    by_key = {row[0].text: row for row in cells.rows}
    for one in records:
        _, run, extension, protocol, context, nats, targets = (cell.text for cell in by_key[one.key])
        wanted = (one.run, one.extension, f"{one.protocol}, {one.split}", str(one.length))
        assert (run, extension, protocol, context) == wanted
        value = one.nats_per_token
        assert nats == (one.status if value is None else f"{value:.3f}")
        assert by_key[one.key][5].attributes.get("data-sort") == (None if value is None else repr(value))
        assert one.targets_sha256.startswith(targets)
    details = {d.all("summary")[0].text.partition(":")[0]: d.all("pre") for d in root.all("details")}
    assert set(details) == {p.parent.name for p in runs.glob("*/config.yaml")}
    for name, (shell, config) in details.items():
        assert config.text == (runs / name / "config.yaml").read_text("utf-8")
        own = [r for r in records if r.run == name]
        lines = shell.text.splitlines()
        assert lines[: -len(own)] == commands(own[0], runs).train
        assert Counter(lines[-len(own) :]) == Counter(evaluate_command(r, runs) for r in own)
    versions = {d.text: e.text for d, e in zip(root.all("dl")[1].all("dt"), root.all("dl")[1].all("dd"), strict=True)}
    assert set(versions) == {name for r in records for name in r.versions}
    for one in records:
        for name, version in one.versions.items():
            assert version in versions[name].split(", ")


def fixed_targets(records: list[Record]) -> Sheet:
    """What the first table and the answers are made of."""
    cells = [c for c in aggregate(records) if c.comparison.protocol == "fixed-targets"]
    (sheet,) = [without_controls(sheet) for sheet in sheets(cells)]
    return sheet


def extension_of(group: Group) -> str:
    return "pi(s=4) (trained)" if group.train_extension != "none" else group.extension


def usable_text(cell: Cell) -> str:
    """``64``, or ``16–64?`` where only 16 is shown."""
    return f"{cell.usable_sure}–{cell.usable}?" if cell.usable_sure != cell.usable else f"{cell.usable}"


def test_numbers_equal_those_of_the_records(root: Node, records: list[Record]) -> None:
    """Each cell of the first table, with its change, interval and verdict."""
    sheet = fixed_targets(records)
    grid = tables_of(root)[0]
    shown = {(row[0].text, row[1].text): row for row in grid.rows}
    assert len(shown) == len(grid.rows) == len(sheet.rows)
    compared = 0
    for group, row in sheet.rows:
        cells_shown = dict(zip(grid.heads, shown[group.label, extension_of(group)], strict=True))
        for length, cell in row.items():
            compared += check_number(cells_shown[f"{length} ({length // 16}x)"], cell)
        usable = next(iter(row.values()))
        assert cells_shown["usable"].text == usable_text(usable)
        assert cells_shown["seeds"].text == str(len(usable.seeds) or len(usable.records))
    assert compared >= 9
    badges = {n.text for n in root.all("span") if n.attributes["class"] == "verdict"}
    assert {"survives", "undecided"} <= badges <= {"uses", "survives", "breaks", "undecided"}


def check_number(shown: Node, cell: Cell) -> int:
    """One td against one cell of the aggregate; 1 where there was a number to compare."""
    if cell.nats_per_token is None:
        assert re.fullmatch(r"– \[\d+\]", shown.text.strip())
        assert "data-sort" not in shown.attributes
        return 0
    assert float(shown.attributes["data-sort"]) == cell.nats_per_token
    first = shown.parts[0]
    assert isinstance(first, str)
    assert re.fullmatch(r"\d+\.\d{2} · \d+\.\d{3}" + ("" if cell.spread is None else r" ±\d+\.\d{3}"), first)
    numbers = [float(n) for n in re.findall(r"[-+]?\d+(?:\.\d+)?", shown.text)]
    expected = [math.exp(cell.nats_per_token), cell.nats_per_token]
    expected += [] if cell.spread is None else [cell.spread]
    if not cell.is_control:
        assert cell.delta is not None
        assert cell.interval is not None
        expected += [cell.delta, *cell.interval.family]
        (badge,) = [n for n in shown.all("span") if n.attributes["class"] == "verdict"]
        assert badge.text == cell.verdict
        assert cell.verdict in shown.attributes["class"].split()
    assert numbers[0] == pytest.approx(expected[0], abs=0.006)
    assert numbers[1:] == pytest.approx(expected[1:], abs=0.0006)
    return 1


def test_changes_gains_and_costs_equal_those_of_the_records(root: Node, records: list[Record]) -> None:
    found = {t.title: t for t in tables_of(root)}
    cells = [c for c in aggregate(records) if c.comparison.protocol == "fixed-targets"]
    (seeds,) = [t for title, t in found.items() if "by seed" in title]
    assert seeds.heads[-2:] == ["seed 0", "seed 1"]
    for row in seeds.rows:
        label, extension, length = (c.text for c in row[:3])
        if label != "rope":
            continue
        (cell,) = [
            c for c in cells if (c.group.label, c.group.extension, str(c.length)) == (label, extension, length)
            and c.group.base_context == 16 and not c.group.train_extension.startswith("pi")
        ]  # fmt: skip
        assert [float(c.attributes["data-sort"]) for c in row[3:]] == list(cell.deltas)
    gains = found["Share of the attainable gain"]
    assert {row[2].text for row in gains.rows} == {"64 (4x)"}
    for row in gains.rows:
        shared = [c.share for c in cells if c.length == 64 and c.group.extension == row[1].text and c.share]
        assert float(row[6].attributes["data-sort"]) in [s.long for s in shared]
    costs = found["Evaluation"]
    assert costs.rows
    for row in costs.rows:
        assert float(row[5].attributes["data-sort"]) > 0
    training = found["Training"]
    assert {row[0].text for row in training.rows} == {r.run for r in records}
    times = {row[0].text: row[5].text for row in training.rows}
    assert (times["rope-0"], times["rope-1"]) == ("1 min 15 s", "9 s")


MINUS_NOTHING = re.compile(r"(?<![\w.])[-−]0(\.0+)?(?![\d.])")  # but not in the names of runs, as rope-0


def test_there_is_no_negative_zero(root: Node) -> None:
    assert all(MINUS_NOTHING.search(text) for text in ("-0%", "[-0%, 1%]", "1.2 -0.000", "[-0.000, +0.001]", "−0"))
    assert not any(MINUS_NOTHING.search(text) for text in ("rope-0", "-0.012", "-0.5%", "[-0.001, +0.001]"))
    for table in tables_of(root):
        for row in table.rows:
            assert not [c.text for c in row if MINUS_NOTHING.search(c.text)], table.title
    assert not [n.text for n in root.all("li") if MINUS_NOTHING.search(n.text)]


def listed(numbers: list[int]) -> str:
    return " and ".join(map(str, numbers))


def test_the_summary_has_a_sentence_for_each_row(root: Node, records: list[Record]) -> None:
    """Each row is in one sentence, with exactly the verdicts of the table past 1x."""
    answers = answers_of(root)
    assert not [line for line in answers if re.search(r"\.\)|\.\.|  ", line)], "two full stops, or a gap"
    answer_by_rows = dict(line.split(": ", 1) for line in answers)
    assert len(answer_by_rows) == len(answers) == len(set(answer_by_rows.values())), (
        "rows with the same answer share a sentence"
    )
    names: list[str] = []
    for group, row in fixed_targets(records).rows:
        extension = extension_of(group)
        names.append(group.label + ("" if extension == "none" else f" with {extension}"))
        (text,) = [text for of, text in answer_by_rows.items() if names[-1] in of.split(" and ")]
        beyond = [cell for length, cell in sorted(row.items()) if length > 16]
        expected = []
        for verdict, verb in (("survives", "survives"), ("undecided", "undecided at")):
            lengths = [cell.length for cell in beyond if cell.verdict == verdict]
            expected += [f"{verb} {listed(lengths)}"] if lengths else []
        refused = [cell for cell in beyond if not cell.ok]
        assert {cell.verdict for cell in beyond if cell.ok} <= {"survives", "undecided"}, "say what else there is"
        if refused:
            reason = "learned positions end at 16. Try --extension interpolate, or a length up to 16"
            assert {cell.first.reason for cell in refused} == {f"{reason}."}
            expected.append(f"no number at {listed([cell.length for cell in refused])} ({reason})")
        assert text == f"{'; '.join(expected)}. Usable context: {usable_text(beyond[0])} tokens."
    assert sorted(name for of in answer_by_rows for name in of.split(" and ")) == sorted(names)
    assert set(names) == {HOSTILE, "rope", "rope with pi", f"{LONG} with pi(s=4) (trained)"}


def test_every_row_has_its_names_in_any_order(root: Node) -> None:
    """Blank cells that mean 'as above' repeat the name in grey, because rows can be sorted."""
    repeated = 0
    for table in tables_of(root):
        named = [n for n, head in enumerate(table.heads) if n == 0 or head in ("scheme", "extension", "protocol")]
        above: dict[int, str] = {}
        for row in table.rows:
            for n in named:
                assert row[n].text.strip(), f"{table.title}, {table.heads[n]}"
                soft = [s.text for s in row[n].all("span") if s.attributes["class"] == "second"]
                if soft:
                    assert soft == [row[n].text] == [above[n]], table.title
                    repeated += 1
                above[n] = row[n].text
    assert repeated == 4, "two names of each of two rows, learned and rope outside of fixed-targets"


def test_numbers_sort_as_numbers(root: Node) -> None:
    """Cells have data-sort: as text, '+0.005' would sort before '-0.012', and '10' before '2'."""
    for table in tables_of(root):
        for row in table.rows:
            for head, cell in zip(table.heads, row, strict=True):
                a_number = re.match(r"[-+]?\d[\d,]*(\.\d+)?\b(?! \[|\w)", cell.text.strip())
                if "text" in cell.attributes["class"].split() or head == "targets" or not a_number:
                    continue
                assert "data-sort" in cell.attributes, f"{table.title}, {head}: {cell.text}"


def test_runs_with_missing_files(runs: Path, tmp_path: Path) -> None:
    """Without meta.json, or the base run of a fine-tuned run, the page is written with a message."""
    own = tmp_path / "runs"
    for name in ("tuned", "rope-1"):
        shutil.copytree(runs / name, own / name)
    (own / "rope-1" / "meta.json").unlink()
    result = posx("report", "--runs-dir", own, "-o", tmp_path / "new" / "folder" / "r.html")
    assert result.stdout.strip() == str(tmp_path / "new" / "folder" / "r.html")
    page = tree_of((tmp_path / "new" / "folder" / "r.html").read_text("utf-8"))
    assert "rope-0, which is missing" in page.all("details")[1].text
    (training,) = [t for t in tables_of(page) if t.title == "Training"]
    assert [c.text for c in training.rows[0]] == ["rope-1", *["–"] * 7]


def test_zero_seconds_are_not_missing_seconds(runs: Path, tmp_path: Path) -> None:
    """meta.json rounds seconds, so a few steps may take 0.0; a dash means that they are missing."""
    shutil.copytree(runs / "rope-1", tmp_path / "runs" / "rope-1")
    change_meta(tmp_path / "runs" / "rope-1", seconds=0.0)
    posx("report", "--runs-dir", tmp_path / "runs", "-o", tmp_path / "r.html")
    (training,) = [t for t in tables_of(tree_of((tmp_path / "r.html").read_text("utf-8"))) if t.title == "Training"]
    assert [(row[5].text, row[5].attributes.get("data-sort")) for row in training.rows] == [("0 s", "0.0")]


def test_the_config_in_the_page_is_that_of_the_run(root: Node) -> None:
    """It is YAML that can be copied out of the page, with the label as it was given."""
    for details in root.all("details"):
        values = yaml.safe_load(details.all("pre")[1].text)
        if details.all("summary")[0].text.startswith("learned"):
            assert values["label"] == HOSTILE
