"""Atomic writes of files and folders, hashes, and the cache directory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posx.errors import PosxError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path next to ``path``, renamed to ``path`` if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder, renamed to ``path`` at the end. If another process was faster, its folder remains."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():
                raise
            shutil.rmtree(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with keys in the given order. Raises ValueError for NaN, which JSON does not have."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8."""
    with whole_file(path) as temporary:
        temporary.write_text(text, "utf-8")


def read_json(path: Path, what: str, hint: str = "Check that the folder was copied completely.") -> Any:
    """Parse a JSON file that posx wrote. Raises PosxError if it is missing, unreadable or damaged."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise PosxError(f"{path} is missing, so this is not {what}.", hint) from None
    except OSError as error:
        raise PosxError(f"{path} cannot be read: {error.strerror or error}.", hint) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PosxError(f"{path} is damaged ({error}).", "Delete it and run the command again.") from None


def cache_dir(configured: str | None = None) -> Path:
    """Folder of corpora and compiled code: as configured, else $POSX_CACHE, else posx in the user's cache directory."""
    if configured or os.environ.get("POSX_CACHE"):
        return Path(configured or os.environ["POSX_CACHE"]).expanduser()
    from platformdirs import user_cache_dir  # imported late, because few commands need it

    return Path(user_cache_dir("posx", appauthor=False))


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(*parts: Any) -> str:
    """Hex digest of values: of bytes, or of canonical JSON for anything else. Each is preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()
