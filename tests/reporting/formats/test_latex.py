"""Tests of ``posx.reporting.formats.latex``."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fixtures.stored_records import record
from fixtures.table_cells import (
    attainable,  # noqa: F401
    example,
    judged,  # noqa: F401
    printed,
    protocol_cells,  # noqa: F401
)
from posx.reporting.formats import render
from posx.reporting.formats.latex import tex
from posx.results.aggregate import aggregate
from posx.results.cells import Cell

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
    assert text.count("% requires \\usepackage{booktabs} and \\usepackage{graphicx}\n") == number
    assert "\\hline" not in text
    for one in text.split("% requires \\usepackage{booktabs} and \\usepackage{graphicx}\n")[1:]:
        # The only comment prevents a space at the start of the box around the table.
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


def test_special_characters_in_labels_are_escaped() -> None:
    text = render(nasty(), "latex")
    assert r"50\%\_of \{x\} \& \$y\$ \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}z & none &" in text
    assert r"a\_b\%c\&\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{} & none &" in text


def test_characters_that_differ_in_ot1_are_commands() -> None:
    """In OT1, LaTeX's default, < > | are printed as ¡ ¿ —, and -- as –."""
    names = [row.split("&")[0].strip() for row in body_rows(render(nasty(), "latex"))]
    assert r"\textless{}a\textgreater{} \textbar{} b" in names
    assert "a-{}-b" in names
    assert "a--b" not in names


@pytest.mark.parametrize(
    "text, expected",
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
def test_escaping_by_example(text: str, expected: str) -> None:
    assert tex(text) == expected


def test_negative_numbers_have_a_minus(judged: list[Cell], attainable: list[Cell], protocol_cells: list[Cell]) -> None:
    """A hyphen is too short: in shares, changes in percent, and intervals."""
    for cells, least in ((judged, 4), (attainable, 4), (protocol_cells, 4)):
        text = render(cells, "latex", side_by_side=cells is protocol_cells)
        assert re.findall(r"(?<![\w$)-])-\d", text) == []
        assert len(re.findall(r"\$-\$\d", text)) >= least


@pytest.mark.parametrize("sign", ["[", "*"])
def test_no_row_starts_with_an_argument_of_the_previous_row_end(sign: str) -> None:
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
        *("L = 64", "S = 2", "targets 11111111", r"95\% intervals", "nats/token", "[1] unsupported"),
    ):
        assert part in caption.group(1), part


def test_latex_cells_contain_the_same_as_markdown_cells(judged: list[Cell]) -> None:
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
def test_latex_is_ascii(which: str, judged: list[Cell], attainable: list[Cell], protocol_cells: list[Cell]) -> None:
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
