"""What a source of documents is, and the text in a row of a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

from posx.errors import PosxError


class Source(Protocol):
    """Where documents come from. Its module makes it from a ``DataConfig``, and imports a large library in use only."""

    name: ClassVar[str]  # as in ``data.source``

    def documents(self) -> Iterator[str]:
        """All documents in the source's own order, read one at a time; some may be empty. Raises PosxError."""

    def files(self) -> list[Path]:
        """The local files that are read, in that order; empty if the documents are elsewhere. Raises PosxError."""

    def remote_id(self) -> list[Any] | None:
        """What identifies the documents if reading them may need a network; None for local ones.

        Local documents are identified by their content.
        """


def text_field(row: Any, field: str, where: str) -> str:
    """The text in a field of a row. ``where`` names the row in an error. Raises PosxError."""
    value = row.get(field) if isinstance(row, dict) else None
    if not isinstance(value, str):
        known = [k for k, v in row.items() if isinstance(v, str)] if isinstance(row, dict) else []
        hint = f"Set data.text_field to one of: {', '.join(known)}." if known else "Each row needs a text."
        raise PosxError(f"{where} has no text in the field '{field}'.", hint)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise PosxError(
            f"{where} holds half a surrogate pair, which is no text (character {error.start}).",
            "Fix or drop that row.",
        ) from None
    return value
