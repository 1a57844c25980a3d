"""Tests of ``posx.reporting.output``."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from posx.reporting.output import Output, Verbatim
from posx.reporting.table import Page


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(*blocks: Page | Table | str, terminal: bool = False) -> str:
    stream = Terminal() if terminal else io.StringIO()
    Output(None, blocks).show(Console(file=stream, width=20, color_system=None, force_terminal=False))
    return stream.getvalue()


SENTENCE = "posx eval [rope] --length 3000"


def test_a_sentence_is_wrapped_on_a_terminal_only() -> None:
    assert printed(SENTENCE) == SENTENCE + "\n"
    wrapped = printed(SENTENCE, terminal=True)
    assert [line.rstrip() for line in wrapped.splitlines()] == ["posx eval [rope]", "--length 3000"]


def test_a_command_is_never_wrapped() -> None:
    assert printed(Verbatim(SENTENCE), terminal=True) == SENTENCE + "\n"


def test_blocks_are_printed_in_order() -> None:
    table = Table(title="cost [ms]", show_header=False)
    table.add_row("a", "b")
    lines = printed("first", table, Verbatim("last")).splitlines()
    assert (lines[0], lines[-1]) == ("first", "last")
    assert any("cost" in line for line in lines[1:-1])


def test_an_output_without_blocks_prints_nothing() -> None:
    assert printed() == ""
    assert not Output([], []).failed
