"""What a function of the API returns for a command to print: values for programs, and blocks for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # for start-up time: imports numpy
    from posx.reporting.table import Page


class Verbatim(str):
    """A line to copy, such as a command. It is never wrapped."""


@dataclass(frozen=True)
class Output:
    """``values``: what ``--json`` prints. ``blocks``: pages, tables of rich, and lines of text, in order.

    ``failed``: a check failed, and the command exits with code 1.
    """

    values: Any
    blocks: Sequence[Page | Table | str]
    failed: bool = False

    def show(self, console: Console) -> None:
        """Print the blocks."""
        for block in self.blocks:
            if isinstance(block, Verbatim):
                console.print(block, markup=False, soft_wrap=True)
            elif isinstance(block, str):
                console.print(block, markup=False, soft_wrap=not console.file.isatty())
            elif isinstance(block, Table):
                console.print(block, markup=False)
            else:
                from posx.reporting.formats.terminal import show_page

                show_page(block, console)
