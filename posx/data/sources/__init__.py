"""Sources of documents, one per module, selected by ``data.source``."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from posx.config.schema import DataConfig
from posx.data.sources.base import Source
from posx.errors import PosxError

MODULES = {"text": "files"}  # ``data.source`` → module, if the names differ


def make_source(data: DataConfig) -> Source:
    """The source for a checked config: the class with this ``name`` in the module of that name."""
    module = import_module(f"{__name__}.{MODULES.get(data.source, data.source)}")
    (source,) = (
        cls for cls in vars(module).values() if isinstance(cls, type) and vars(cls).get("name") == data.source
    )  # fmt: skip
    return source(data)


def documents(data: DataConfig) -> Iterator[str]:
    """The documents of a source in its order, limited to ``data.max_bytes``. Raises PosxError.

    They are read lazily, so that memory holds one document (for Parquet and the Hub, one batch) at a time.
    """
    empty = True
    for text in _bounded((text for text in make_source(data).documents() if text.strip()), data.max_bytes):
        empty = False
        yield text
    if empty:
        raise PosxError(f"{data.path or data.name} contains no text.", "Use a file or directory that contains text.")


def _bounded(texts: Iterator[str], max_bytes: int | None) -> Iterator[str]:
    """Whole documents while they fit. Only a first document that exceeds the limit on its own is cut."""
    used = 0
    for text in texts:
        size = len(text.encode())
        if max_bytes is not None and used + size > max_bytes:
            if used == 0:
                yield text.encode()[:max_bytes].decode(errors="ignore")
            return
        used += size
        yield text
