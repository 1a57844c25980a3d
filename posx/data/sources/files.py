"""Local files: .txt, .jsonl and .parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import ClassVar

from posx.config.schema import DataConfig
from posx.data.sources.base import text_field
from posx.errors import PosxError

SUFFIXES = (".txt", ".jsonl", ".parquet")


class Files:
    """``data=text``: the documents of a file, or of all files below a directory, sorted by path."""

    name: ClassVar[str] = "text"

    def __init__(self, data: DataConfig):
        self.data = data

    def documents(self) -> Iterator[str]:
        return chain.from_iterable(read_file(path, self.data.text_field) for path in self.files())

    def files(self) -> list[Path]:
        return text_files(Path(self.data.path or "").expanduser())

    def remote_id(self) -> None:
        return None


def text_files(path: Path) -> list[Path]:
    """A file, or all files below a directory that are not hidden, sorted by path. Raises PosxError."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file() and not _hidden(p, path))
        if not files:
            raise PosxError(f"{path} contains no {', '.join(SUFFIXES)} file.", "Use another directory, or a file.")
    elif path.is_file():
        if path.suffix not in SUFFIXES:
            raise PosxError(
                f"{path} is not a {', '.join(SUFFIXES)} file.", "If it has one of these formats, rename it."
            )
        files = [path]
    else:
        raise PosxError(f"{path} does not exist.", "Check data.path.")
    return files


def _hidden(file: Path, below: Path) -> bool:
    """Whether the file, or a directory between ``below`` and it, is hidden."""
    return any(part.startswith(".") for part in file.relative_to(below).parts)


def read_file(path: Path, field: str) -> Iterator[str]:
    """The documents of a file: a .txt file is one; .jsonl and .parquet files have one per row. Raises PosxError."""
    try:
        if path.stat().st_size == 0:
            raise PosxError(f"{path} is empty.", "Remove it, or use another data.path.")
        if path.suffix == ".txt":
            yield _decoded(path.read_bytes(), path).removeprefix("\ufeff")
        else:
            yield from _jsonl(path, field) if path.suffix == ".jsonl" else _parquet(path, field)
    except PermissionError:
        raise PosxError(f"{path} cannot be read: permission denied.", "Check its permissions.") from None
    except OSError as error:
        raise PosxError(f"{path} cannot be read: {error.strerror or error}.", "Check the file and its disk.") from None


def _decoded(content: bytes, path: Path, before: int = 0) -> str:
    """Decode UTF-8 text that starts at byte ``before`` of the file. Raises PosxError."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PosxError(
            f"{path} is not UTF-8 text: byte {before + error.start} is 0x{content[error.start]:02x}.",
            f"Convert it, for example with: iconv -f latin1 -t utf-8 {path.name}.",
        ) from None


def _jsonl(path: Path, field: str) -> Iterator[str]:
    before = 0  # bytes of all previous lines
    with path.open("rb") as file:  # in binary mode, lines end only at line feeds
        for number, content in enumerate(file, start=1):
            line = _decoded(content, path, before).removesuffix("\n")
            before += len(content)
            if number == 1:
                line = line.removeprefix("\ufeff")
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise PosxError(
                    f"{path}, line {number} is not JSON ({error.msg}, column {error.colno}).",
                    "A .jsonl file contains one JSON object per line.",
                ) from None
            yield text_field(row, field, f"{path}, line {number}")


def _parquet(path: Path, field: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        # Read page by page, not by row group: a large file may have only one row group.
        with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            if field not in file.schema_arrow.names:
                raise PosxError(
                    f"{path} has no column '{field}'.",
                    f"Set data.text_field to one of: {', '.join(file.schema_arrow.names)}.",
                )
            for batch in file.iter_batches(batch_size=256, columns=[field]):
                for value in batch.column(0).to_pylist():
                    number += 1
                    yield text_field({field: value}, field, f"{path}, row {number}")
    except (pa.ArrowException, OSError) as error:
        raise PosxError(f"{path} cannot be read as Parquet ({error}).", "Recreate it, or remove it.") from None
