"""Errors that a user can fix. Any other exception is a bug and is shown with its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PosxError(Exception):
    """An error that a user can fix: what is wrong, and a hint on how to fix it. Printed without a traceback.

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
    """Whether memory ran out: a MemoryError, or torch's error on a CPU, which is a plain RuntimeError."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in str(error))


class Unsupported(PosxError):
    """A scheme does not support an extension or a length. Tables show a dash with a footnote, not a failure."""


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> PosxError:
    """The error for an unknown name. Its hint lists similar names, then all known ones."""
    known = sorted(known)
    near = difflib.get_close_matches(name.lower(), known, n=2, cutoff=0.6)
    guess = f"Did you mean {' or '.join(near)}? " if near else ""
    available = f"Available: {', '.join(known)}." if known else "It has no settings."
    return PosxError(f"There is no {kind} '{name}'{where}.", guess + available)
