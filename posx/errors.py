"""Mistakes that a user can mend. Everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PosxError(Exception):
    """A sentence that says what is wrong, and a hint that says the way out. Printed without a traceback.

    ``code`` is the exit code of the command: 2 for usage, configuration and data, 1 for a run that failed.
    """

    def __init__(self, message: str, hint: str = "", code: int = 2):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


def lacks_memory(error: BaseException) -> bool:
    """Whether there was not enough memory: Python's own error, or torch's, which on a CPU has no class of its own."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in str(error))


class Unsupported(PosxError):
    """This scheme cannot do that at this length. In a table it is a dash with a footnote, not a failure."""


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> PosxError:
    """The error for a name that does not exist: the nearest names, then all there are."""
    known = sorted(known)
    near = difflib.get_close_matches(name.lower(), known, n=2, cutoff=0.6)
    guess = f"Did you mean {' or '.join(near)}? " if near else ""
    there_are = f"There are: {', '.join(known)}." if known else "There is nothing to set."
    return PosxError(f"There is no {kind} '{name}'{where}.", guess + there_are)
