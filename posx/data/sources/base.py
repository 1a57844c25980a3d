"""Protocol of document sources, and access to the text in a row of a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

from posx.errors import PosxError


class Source(Protocol):
    """A source of documents, made from a ``DataConfig``. Its module imports large libraries only when it reads."""

    name: ClassVar[str]  # its value in ``data.source``

    def documents(self) -> Iterator[str]:
        """All documents in the source's own order, read one at a time; some may be empty. Raises PosxError."""

    def files(self) -> list[Path]:
        """Local files in the order in which they are read; empty if documents are not local. Raises PosxError."""

    def remote_id(self) -> list[Any] | None:
        """Values that identify the documents if reading them may require a network; None for local documents.

        Local documents are identified by their content.
        """


def text_field(row: Any, field: str, where: str) -> str:
    """The text in a field of a row. ``where`` names the row in an error. Raises PosxError."""
    value = row.get(field) if isinstance(row, dict) else None
    if not isinstance(value, str):
        known = [k for k, v in row.items() if isinstance(v, str)] if isinstance(row, dict) else []
        hint = f"Set data.text_field to one of: {', '.join(known)}." if known else "Each row requires a text."
        raise PosxError(f"{where} has no text in the field '{field}'.", hint)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise PosxError(
            f"{where} contains half a surrogate pair, which is not valid text (character {error.start}).",
            "Fix or remove that row.",
        ) from None
    return value
