"""Tests of ``posx.bench.schemes_page``."""

from __future__ import annotations

import io
import re
import shlex
from typing import Any

import pytest
import torch
from rich.console import Console

from fixtures.measured import (
    cells,
    line_of,
    measured,  # noqa: F401
    own,  # noqa: F401 - a fixture
    text,  # noqa: F401
)
from posx.bench import schemes_page as costs
from posx.reporting.formats.markdown import markdown
from posx.reporting.formats.terminal import show_page
from posx.utils.format import figure


def test_markdown_has_the_numbers_and_the_setup_of_the_json(measured: Any) -> None:
    rows, table, arguments = measured
    heavy = rows["heavy"]
    train, short, long = cells(heavy)
    assert line_of(table, "heavy") == [
        "heavy",
        f"{figure(train['step_ms'], 3)} ×{train['ratio']:.2f}",
        f"{train['tokens_per_second']:,.0f}",
        f"{short['tokens_per_second']:,.0f} ×{short['ratio']:.2f}",
        f"{long['tokens_per_second']:,.0f} ×{long['ratio']:.2f}",
        *(f"{cell['peak_memory_bytes'] / 1e6:,.0f}" for cell in (train, short, long)),
    ]
    head = table.splitlines()[0]
    for part in (
        heavy["setup"]["device"],
        f"torch {torch.__version__}",
        "1 thread;",
        "1 layers, width 16, 2 heads, context 8, vocabulary 300",
        "training in float32, uncompiled, 64 tokens per step",
        "evaluation in float32",
    ):
        assert part in head
    (made,) = [line for line in table.splitlines() if "Command:" in line]
    command = shlex.split(made.split("`")[1])
    assert command[:2] == ["posx", "bench"]
    assert sorted(command[2:]) == sorted(arguments)  # all but --json and -o, which change no number
    assert markdown(costs.page(list(rows.values()))) == table
    assert "within each of 3 rounds" in table


def shown(rows: list[dict[str, Any]], width: int) -> str:
    """What a terminal of this width gets."""
    out = io.StringIO()
    for page in costs.pages(rows, width):
        show_page(page, Console(file=out, width=width, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_narrow_terminal_shows_every_number_in_three_tables(measured: Any, width: int) -> None:
    """Each table has one row per scheme and one column per length."""
    rows = measured[0]
    text = shown(list(rows.values()), width)
    tables = text.partition("\n[1] ")[0]
    assert "…" not in text
    for title in ("cost in training", "cost in evaluation, tokens/s", "cost in evaluation, MB"):
        assert title in " ".join(tables.split())  # a title is as narrow as its table
    body = [[field.strip() for field in re.split("[│┃]", line.strip("│┃"))] for line in tables.splitlines()]
    assert max(len(line) for line in tables.splitlines() if "│" in line) <= width
    found = [[fields[1:] for fields in body if fields[0] == name] for name in rows]
    assert [len(lines) for lines in found] == [3] * len(rows)
    table = measured[1]
    for name, (training, rates, memory) in zip(rows, found, strict=True):
        _, step, rate, short, long, *megabytes = line_of(table, name)
        assert training == [step, rate, megabytes[0]]
        assert rates == [short, long]
        assert memory == megabytes[1:]


def test_a_wide_terminal_and_a_file_get_one_table(measured: Any) -> None:
    rows = list(measured[0].values())
    (page,) = costs.pages(rows)
    assert costs.pages(rows, 300) == [page]
    assert page.heads[5:] == ["training, MB", "at 8, MB", "at 32, MB"]
