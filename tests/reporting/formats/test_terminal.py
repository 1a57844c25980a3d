"""Tests of ``posx.reporting.formats.terminal``."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fixtures.models import posx
from fixtures.records import ROPE, Shelf
from fixtures.table_cells import (
    attainable,  # noqa: F401
    bare,
    judged,  # noqa: F401
    printed,
    protocol_cells,  # noqa: F401
    shown,
    values,
)
from posx.reporting.formats.terminal import show
from posx.reporting.grouping import sheets
from posx.reporting.views import long_form, pages
from posx.results.aggregate import aggregate
from posx.results.cells import Cell


def grid_heads(text: str) -> bool:
    return "params" in text and "64 (1x)" in text and "change, 95% interval" not in text


def table_lines(text: str, heads: str = "length") -> list[str]:
    """The one table in what a terminal gets, from its heads to the line before its remarks."""
    lines = text.splitlines()
    first = next(n for n, line in enumerate(lines) if re.match(rf"[ ┃]*{heads} ", line))
    last = next((n for n, line in enumerate(lines) if n > first and re.match(r"\[1\]|The same|Protocol", line)), None)
    return lines[first:last]


BETWEEN = "(?: +│ +| {3,})"  # columns: a line, or three blanks


def line_of(context: str, *parts: str) -> str:
    """A pattern of the line that begins with this length, two blanks in, and has these patterns and no more."""
    return rf"(?m)^(?:│ | {{0,2}})  {BETWEEN.join((re.escape(context), *parts))}[ │]*$"


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
    """Below the line with its name, which contains no other number."""
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
def test_a_narrow_terminal_does_not_truncate_ordinary_names(tmp_path: Path, width: int) -> None:
    """82 columns with borders, 79 without and with names of 16: at 80, only longer names may be wrapped."""
    text = shown(ordinary(tmp_path), width)
    assert "…" not in text
    assert ("┏" in text, "│" in text) == (width > 80, width > 80)
    assert list(parts_of(text)) == [f"{name}{told}" for name, told in ABOVE["ordinary"].items()]
    for name in ("rope", "rope + ntk(s=4)", *(("sinusoidal-concat", "5 seeds, usable 128") if width > 80 else ())):
        line = rf"(?m)^(?:│ | {{0,2}}){re.escape(name)}[ │]*$"
        assert len(re.findall(line, text)) == (3 if "seeds" in name else 1), name
    assert max(map(len, table_lines(text))) <= width


def test_a_name_wider_than_its_column_is_wrapped(tmp_path: Path) -> None:
    """A word of 33 letters: wrapped to 16 columns, its numbers fit next to it."""
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
    return [[pair for pair in block if len(pair) == 2] for block in parts]  # without the names above their rows


def test_a_narrow_terminal_does_not_truncate_huge_numbers(tmp_path: Path) -> None:
    """86 columns exceed 80 even without borders: a list of values is printed for each length."""
    cells = vast(tmp_path)
    text = shown(cells, 80)
    assert "…" not in text
    assert not set("┃│─") & set(text)
    assert re.search(r"(?m)(?:^|  )sinusoidal-concat *$", text)
    assert re.search(r"(?m)(?:^|  )5 seeds, usable 64 *$", text)
    heads = long_form(sheets(cells)[0]).heads
    for cell, context in zip(cells, ("64 (1x)", "1024 (16x)"), strict=True):
        (block,) = [block for block in listed(text) if ["length", context] in block]
        assert [head for head, _ in block] == heads[: len(block)]
        for (_, value), pattern in zip(block, [re.escape(context), *values(cell)], strict=True):
            assert re.fullmatch(pattern, value), value
    places = [text.index(part) for part in ("sinusoidal-concat", "5 seeds, usable 64", "64 (1x)", "1024 (16x)")]
    assert places == sorted(places)
    assert max(len(line.rstrip()) for line in text.partition("The same targets")[0].splitlines()) <= 80


def test_only_lengths_are_listed_under_the_length_heading(tmp_path: Path) -> None:
    """The first column also holds the names of rows and their seeds, which are not lengths."""
    found = re.findall(r"(?m)^length +(.*?) *$", shown(vast(tmp_path), 80))
    assert found == ["64 (1x)", "1024 (16x)"]


@pytest.mark.parametrize("which, rows", [("gain", 2), ("all", 5), ("curve", 1)])
def test_a_narrow_terminal_does_not_truncate_other_tables(
    tmp_path: Path, attainable: list[Cell], protocol_cells: list[Cell], which: str, rows: int
) -> None:
    """Tables of shares, protocols, and curves by context over four octaves past L."""
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
    # The last is a list: every value next to its heading, in order, below the name of its row.
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
def test_no_color_does_not_change_the_width(tmp_path: Path, no_colour: str) -> None:
    """With NO_COLOR, a terminal of 80 columns still gets the narrow table."""
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
    assert "change, 95% interval" in text
    assert "…" not in text


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_a_terminal_of_any_width_shows_every_number_and_name(judged: list[Cell], width: int) -> None:
    """If it is too narrow for the grid, there is one line per number."""
    text = shown(judged, width)
    assert ("change, 95% interval" in text) == (width < 160)
    assert grid_heads(text) == (width >= 160)
    assert max(map(len, table_lines(text, "scheme" if width >= 160 else "length"))) <= width
    assert "…" not in text
    names = ("none", "pi") if width >= 160 else ("rope + pi",)  # a narrow one does not print "none"
    for word in ("rope", "alibi", *names, "uses", "survives", "breaks", "undecided", "– [1]"):
        assert word in text, word
    for cell in judged:
        if cell.nats_per_token is None:
            continue
        assert f"{cell.nats_per_token:.3f}" in text
        if cell.interval is not None:
            assert printed(cell.interval.family) in text


@pytest.mark.parametrize("lengths", [2, 7, 12])
def test_a_pipe_gets_the_grid(tmp_path: Path, lengths: int) -> None:
    shelf = Shelf(tmp_path)
    shelf.row({64 * 2**n: (0.1, 0.02) for n in range(1, lengths)}, seeds=3, **ROPE)
    text = posx("table", "--runs-dir", tmp_path).stdout
    assert grid_heads(text), text.splitlines()[3]
    assert f"{64 * 2 ** (lengths - 1)} ({2 ** (lengths - 1)}x)" in text
    assert "…" not in text
    assert "\x1b" not in text


def test_colours_match_the_verdict(judged: list[Cell]) -> None:
    out = io.StringIO()
    show(judged, Console(file=out, width=200, highlight=False, force_terminal=True, color_system="standard"))
    text = out.getvalue()
    for verdict, code in (("uses", 32), ("breaks", 31), ("undecided", 33)):
        assert re.search(rf"\x1b\[{code}m *{verdict}\x1b\[0m", text), verdict
    assert not re.search(r"\x1b\[\d+m *survives", text)
