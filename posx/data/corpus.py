"""Corpora: documents split into training, validation and test, tokenised once, and memory-mapped.

    CACHE/corpora/<key>/
      corpus.json        hashes, counts and notes
      tokenizer.json
      token_bytes.npy    UTF-8 length of every token of the vocabulary, uint16 [V]
      train.bin          token ids, one document after another; likewise validation.bin, test.bin
      train.offsets.npy  int64 [documents + 1]: document d is ids[offsets[d] : offsets[d + 1]]

The key is a hash of the documents' content and the settings, so that a changed file gives a new corpus. The folder is
written atomically: if two processes build it at the same time, both succeed and one of the results remains.

    CACHE/read/<fingerprint>   key of the corpus of large local files, written when they were last read

Memory use does not grow with the size of the text: during a build, documents are stored in an unnamed temporary file,
which needs as much disk space as the text and is deleted when the process ends. Memory holds about 150 bytes per
document, the tokenizer's table of distinct words, and one document at a time (a .txt file is one document). The
tokenizer is trained on the first 200 MB of the training text, sorted by the documents' hashes; if there is more text,
corpus.json has a note.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posx.config.schema import DataConfig, TokenizerConfig
from posx.data.sources import documents, make_source
from posx.data.sources.base import Source
from posx.data.splitting import SPLITS, split
from posx.data.spool import Spool
from posx.data.tokenizer import encode, id_dtype, token_bytes, train_tokenizer
from posx.errors import PosxError
from posx.utils.console import SECONDS_BETWEEN_LINES
from posx.utils.files import cache_dir, read_json, sha256_file, sha256_of, whole_folder, write_json, write_text

TOKENIZER_BYTES = 200_000_000  # at most this much training text is used to train the tokenizer
LARGE_BYTES = 8 * 2**20  # local files of at least this total size are not read again until they change
VERSION = 1  # of this layout and of the rules for splitting and tokenising


@dataclass(frozen=True)
class Split:
    """Token ids of all documents of a split, and the offset of each document."""

    tokens: np.ndarray  # uint16 or uint32, memory-mapped
    offsets: np.ndarray  # int64 [documents + 1]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, int64."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Corpus:
    """A tokenised corpus on disk."""

    path: Path
    sha256: str  # of the documents in their splits
    tokenizer_sha256: str
    token_bytes: np.ndarray  # uint16 [V]
    splits: dict[str, Split]
    facts: dict[str, Any]  # corpus.json

    @property
    def vocab_size(self) -> int:
        """V; less than tokenizer.vocab_size if the training text is too small for that many merges."""
        return len(self.token_bytes)

    @property
    def notes(self) -> list[str]:
        """Notes for readers of the results."""
        return list(self.facts["notes"])


def prepare(data: DataConfig, tokenizer: TokenizerConfig, say: Callable[[str], None]) -> Corpus:
    """The corpus for these settings, from the cache or newly built. Raises PosxError.

    ``say`` receives a line before slow work starts, and one every ten seconds during it.
    """
    pace = Pace(say)
    settings = {"version": VERSION, "vocab_size": tokenizer.vocab_size}
    corpora = cache_dir(data.cache_dir) / "corpora"
    source = make_source(data)
    remote = source.remote_id()
    known, key_file = None, None
    if remote is not None:
        key = sha256_of(settings, remote)[:24]
    else:
        key_file = _key_file(source, data, settings)
        known = _known(key_file, corpora)
        key = known or _key(settings, _hashes(pace.watch(documents(data), f"Reading {data.path or data.name}")))
    folder = corpora / key
    if not folder.is_dir():
        say(f"Preparing the corpus {data.name}, only once: reading, splitting and tokenising …")
        try:
            corpora.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=corpora) as file:
                spool = Spool(file, pace.watch(documents(data), f"Reading {data.path or data.name}"))
                if remote is None and _key(settings, spool.hashes) != key:
                    raise PosxError(
                        f"{data.path or data.name} changed while it was being read.", "Run the command again."
                    )
                _build(folder, spool, tokenizer.vocab_size, pace)
        except OSError as error:
            raise PosxError(
                f"The corpus cannot be written to {folder.parent}: {error.strerror or error}.",
                "Set data.cache_dir, or the environment variable POSX_CACHE, to a folder with enough space.",
            ) from None
    if key_file and not known and _key_file(source, data, settings) == key_file:
        with contextlib.suppress(OSError):  # a cache may be read-only
            write_text(key_file, key)
    return open_corpus(folder)


def _hashes(texts: Iterable[str]) -> bytearray:
    """The concatenated sha256 digests of the documents, 32 bytes each."""
    hashes = bytearray()
    for text in texts:
        hashes += hashlib.sha256(text.encode()).digest()
    return hashes


def _key(settings: dict[str, Any], hashes: bytearray) -> str:
    """The key of local documents: a hash of the settings and of the documents' hashes in order."""
    digest = hashlib.sha256()
    part = json.dumps(settings, sort_keys=True)
    digest.update(f"{len(part)}:{part}".encode())
    _add_hashes(digest, len(hashes) // 32, (hashes[n : n + 32].hex() for n in range(0, len(hashes), 32)))
    return digest.hexdigest()[:24]


def _add_hashes(digest: Any, count: int, hashes: Iterable[str]) -> None:
    """Update a digest as ``sha256_of`` does for a list of ``count`` hex digests, without building the list."""
    digest.update(f"{68 * count}:".encode())  # 64 hex digits, two quotes, and a separator or the brackets
    separator = "["
    for hex_digest in hashes:
        digest.update(f'{separator}"{hex_digest}"'.encode())
        separator = ", "
    digest.update(b"]")


def _key_file(source: Source, data: DataConfig, settings: dict[str, Any]) -> Path | None:
    """The file that stores the key of these local files. Its name depends on paths, inodes, sizes and times only.

    None if the files are small, or so new that a change within one tick of the file system's clock would be missed.
    """
    try:
        stats = [(path, path.stat()) for path in source.files()]
    except OSError:
        return None  # reading them will raise a better error
    newest = max(max(s.st_mtime_ns, s.st_ctime_ns) for _, s in stats)
    if sum(s.st_size for _, s in stats) < LARGE_BYTES or newest > time.time_ns() - 2 * 10**9:
        return None
    files = [[os.path.abspath(p), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for p, s in stats]
    name = sha256_of(settings, [data.text_field, data.max_bytes], files)[:24]
    return cache_dir(data.cache_dir) / "read" / name


def _known(key_file: Path | None, corpora: Path) -> str | None:
    """The stored key of these files, if the corpus still exists."""
    try:
        key = key_file.read_text("utf-8") if key_file else ""
    except (OSError, UnicodeDecodeError):
        return None
    return key if re.fullmatch(r"[0-9a-f]{24}", key) and (corpora / key).is_dir() else None


def open_corpus(folder: Path) -> Corpus:
    """Memory-map a corpus that has been built. Raises PosxError."""
    facts = read_json(folder / "corpus.json", "a posx corpus")
    try:
        digests = facts["sha256"], facts["tokenizer_sha256"]
        lengths = np.load(folder / "token_bytes.npy", allow_pickle=False)
        splits = {}
        for name in SPLITS:
            offsets = np.load(folder / f"{name}.offsets.npy", allow_pickle=False)
            tokens = np.memmap(folder / f"{name}.bin", dtype=id_dtype(len(lengths)), mode="r")
            if len(tokens) != offsets[-1]:
                raise ValueError(f"{name}.bin has {len(tokens)} tokens, not {offsets[-1]}")
            splits[name] = Split(tokens, offsets)
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise PosxError(
            f"The cached corpus {folder} is damaged ({error}).", "Delete that folder; posx will rebuild it."
        ) from None
    return Corpus(folder, *digests, lengths, splits, facts)


class Pace:
    """Reports progress every ten seconds."""

    def __init__(self, say: Callable[[str], None]):
        self.say, self.last_line = say, time.monotonic()

    def watch(self, texts: Iterable[str], doing: str, total: int = 0) -> Iterator[str]:
        """Yield the texts unchanged. ``total`` is their size in UTF-8 bytes, or 0 if unknown."""
        done = 0
        for text in texts:
            yield text
            done += len(text.encode())
            if time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
                self.last_line = time.monotonic()
                self.say(f"{doing}: {done / 1e6:,.0f}{f' of {total / 1e6:,.0f}' if total else ''} MB")


def _build(folder: Path, spool: Spool, vocab_size: int, pace: Pace) -> None:
    splits, notes = split(spool)
    bytes_of = {name: spool.sizes(part) for name, part in splits.items()}
    n_fitting = np.cumsum(bytes_of["train"]).searchsorted(TOKENIZER_BYTES, side="right")
    tokenizer_texts = splits["train"][: max(1, n_fitting)]
    size = int(spool.sizes(tokenizer_texts).sum())
    tokenizer = train_tokenizer(pace.watch(spool.texts(tokenizer_texts), "Training the tokenizer", size), vocab_size)
    actual = tokenizer.get_vocab_size()
    if actual < vocab_size:
        notes.append(f"The training text supports only {actual} tokens, not tokenizer.vocab_size={vocab_size}.")
    if len(tokenizer_texts) < len(splits["train"]):
        notes.append(
            f"The tokenizer was trained on {size / 1e6:,.0f} MB of the training text, the first "
            f"{len(tokenizer_texts):,} documents in the order of their hashes."
        )
    with whole_folder(folder) as temporary:
        (temporary / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), "utf-8")
        np.save(temporary / "token_bytes.npy", token_bytes(tokenizer))
        counts = {}
        digest = hashlib.sha256()
        for name in SPLITS:
            part, size = splits[name], int(bytes_of[name].sum())
            offsets = array("q", [0])
            with (temporary / f"{name}.bin").open("wb") as file:
                for ids in encode(tokenizer, pace.watch(spool.texts(part), f"Tokenising the {name} split", size)):
                    file.write(ids.tobytes())
                    offsets.append(offsets[-1] + len(ids))
            np.save(temporary / f"{name}.offsets.npy", np.array(offsets, dtype=np.int64))
            counts[name] = {"documents": len(part), "bytes": size, "tokens": offsets[-1]}
            _add_hashes(digest, len(part), (sha256_of(spool.content(index)) for index in part))
        write_json(
            temporary / "corpus.json",
            {
                "sha256": digest.hexdigest(),
                "tokenizer_sha256": sha256_file(temporary / "tokenizer.json"),
                "splits": counts,
                "notes": notes,
            },
        )
