"""From documents to token ids on disk: split by document, tokenised once, mapped into memory.

    CACHE/corpora/<key>/
      corpus.json        hashes, counts, what was done to the documents
      tokenizer.json
      token_bytes.npy    UTF-8 length of every token of the vocabulary, uint16 [V]
      train.bin          token ids, one document after another; likewise validation.bin, test.bin
      train.offsets.npy  int64 [documents + 1]: document d is ids[offsets[d] : offsets[d + 1]]

The key covers the documents' content and the settings, so that a changed file is a new corpus. The folder
appears whole or not at all: two processes that build it at once both succeed, and one of the results stays.

    CACHE/read/<fingerprint>   the key of the corpus that large local files gave when they were read last

Memory does not grow with the text: while a corpus is built its documents lie in a file without a name, which
needs as much room as the text and vanishes with the process. What grows is some 150 bytes for every document,
what the tokenizer holds of distinct words, and a single document (a .txt file is one). The tokenizer is learnt
from the first 200 MB of the training text, in the order of the documents' hashes; corpus.json notes it if there
is more.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from posx.config.schema import DataConfig, TokenizerConfig
from posx.data.sources import documents, local_files
from posx.data.tokenizer import encode, id_dtype, token_bytes, train_tokenizer
from posx.errors import PosxError
from posx.runs.directory import Run
from posx.utils.console import SECONDS_BETWEEN_LINES
from posx.utils.files import read_json, sha256_file, sha256_of, whole_folder, write_json, write_text

SPLITS = ("train", "validation", "test")
HELD_OUT = 0.10  # of the bytes, for test and for validation each
FEWEST_DOCUMENTS = 20  # fewer are first cut into pieces
TOKENIZER_BYTES = 200_000_000  # of the training text, from which the tokenizer is learnt
LARGE_BYTES = 8 * 2**20  # local files of so many bytes are not read again while they have not changed
VERSION = 1  # of this layout and of the rules that lead to it


@dataclass(frozen=True)
class Split:
    """Token ids of all documents of a split, and where each begins."""

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
        """V; less than asked where the training text is too small for so many merges."""
        return len(self.token_bytes)

    @property
    def notes(self) -> list[str]:
        """What a reader of the results should know."""
        return list(self.facts["notes"])


def cache_dir(configured: str | None = None) -> Path:
    """Where corpora are kept: as configured, $POSX_CACHE, or the user's cache directory."""
    if configured or os.environ.get("POSX_CACHE"):
        return Path(configured or os.environ["POSX_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posx"


def prepare(data: DataConfig, tokenizer: TokenizerConfig, say: Callable[[str], None]) -> Corpus:
    """The corpus of these settings: from the cache, or built.

    ``say`` gets a line before slow work, and one every ten seconds of it.
    """
    pace = Pace(say)
    settings = {"version": VERSION, "vocab_size": tokenizer.vocab_size}
    corpora = cache_dir(data.cache_dir) / "corpora"
    known, read_before = None, None
    if data.source == "hub":  # its content is not at hand without a network
        key = sha256_of(settings, [data.path, data.subset, data.text_field, data.join_articles, data.max_bytes])[:24]
    else:
        read_before = _fingerprint(data, settings)
        known = _known(read_before, corpora)
        key = known or _key(settings, _hashes(pace.watch(documents(data), f"Reading {data.path or data.name}")))
    folder = corpora / key
    if not folder.is_dir():
        say(f"Preparing the corpus {data.name}, once: reading, splitting and tokenising it …")
        try:
            corpora.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=corpora) as file:
                spool = Spool(file, pace.watch(documents(data), f"Reading {data.path or data.name}"))
                if data.source != "hub" and _key(settings, spool.hashes) != key:
                    raise PosxError(f"{data.path or data.name} changed while it was read.", "Run the command again.")
                _build(folder, spool, tokenizer.vocab_size, pace)
        except OSError as error:
            raise PosxError(
                f"The corpus cannot be written to {folder.parent}: {error.strerror or error}.",
                "Set data.cache_dir, or the environment variable POSX_CACHE, to a folder with room.",
            ) from None
    if read_before and not known and _fingerprint(data, settings) == read_before:
        with contextlib.suppress(OSError):  # a cache may be read-only
            write_text(read_before, key)
    return open_corpus(folder)


def _hashes(texts: Iterable[str]) -> bytearray:
    """The sha256 of every document, 32 bytes each, one after another."""
    hashes = bytearray()
    for text in texts:
        hashes += hashlib.sha256(text.encode()).digest()
    return hashes


def _key(settings: dict[str, Any], hashes: bytearray) -> str:
    """The key of local documents: of the settings, and of the list of the documents' hashes in their order."""
    digest = hashlib.sha256()
    part = json.dumps(settings, sort_keys=True)
    digest.update(f"{len(part)}:{part}".encode())
    _add_hashes(digest, len(hashes) // 32, (hashes[n : n + 32].hex() for n in range(0, len(hashes), 32)))
    return digest.hexdigest()[:24]


def _add_hashes(digest: Any, count: int, hashes: Iterable[str]) -> None:
    """Feed to a digest what ``sha256_of`` feeds to it for a list of so many hex digests, without making the list."""
    digest.update(f"{68 * count}:".encode())  # of the JSON below: 64 characters, two quotes, and two between
    before = "["
    for one in hashes:
        digest.update(f'{before}"{one}"'.encode())
        before = ", "
    digest.update(b"]")


def _fingerprint(data: DataConfig, settings: dict[str, Any]) -> Path | None:
    """Where the key of these local files is kept: by their paths, inodes, sizes and times, not their content.

    None if they are small, or so new that a change within one tick of the file system's clock would not show.
    """
    try:
        stats = [(path, path.stat()) for path in local_files(data)]
    except OSError:
        return None  # reading it will say what is wrong
    newest = max(max(s.st_mtime_ns, s.st_ctime_ns) for _, s in stats)
    if sum(s.st_size for _, s in stats) < LARGE_BYTES or newest > time.time_ns() - 2 * 10**9:
        return None
    files = [[os.path.abspath(p), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for p, s in stats]
    name = sha256_of(settings, [data.text_field, data.max_bytes], files)[:24]
    return cache_dir(data.cache_dir) / "read" / name


def _known(read_before: Path | None, corpora: Path) -> str | None:
    """The key that these files gave before, if that corpus is still there."""
    try:
        key = read_before.read_text("utf-8") if read_before else ""
    except (OSError, UnicodeDecodeError):
        return None
    return key if re.fullmatch(r"[0-9a-f]{24}", key) and (corpora / key).is_dir() else None


def open_corpus(folder: Path) -> Corpus:
    """Map a built corpus into memory."""
    facts = read_json(folder / "corpus.json", "a corpus of posx")
    try:
        digests = facts["sha256"], facts["tokenizer_sha256"]
        lengths = np.load(folder / "token_bytes.npy", allow_pickle=False)
        splits = {}
        for name in SPLITS:
            offsets = np.load(folder / f"{name}.offsets.npy", allow_pickle=False)
            tokens = np.memmap(folder / f"{name}.bin", dtype=id_dtype(len(lengths)), mode="r")
            if len(tokens) != offsets[-1]:
                raise ValueError(f"{name}.bin holds {len(tokens)} tokens, not {offsets[-1]}")
            splits[name] = Split(tokens, offsets)
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise PosxError(
            f"The cached corpus {folder} is damaged ({error}).", "Delete that folder; it is made again."
        ) from None
    return Corpus(folder, *digests, lengths, splits, facts)


def check_same_text(run: Run, corpus: Corpus) -> None:
    """The corpus must be the one that the run was started on, or its test split holds training text."""
    meta = run.meta
    if meta["corpus_sha256"] != corpus.sha256 or meta["tokenizer_sha256"] != corpus.tokenizer_sha256:
        raise PosxError(
            f"The corpus is not the one that {run.name} was trained on: its text or its tokenizer has changed.",
            "Restore data.path as it was, or train the run again under another name.",
        )


class Pace:
    """Says how far the work is, every ten seconds."""

    def __init__(self, say: Callable[[str], None]):
        self.say, self.said = say, time.monotonic()

    def watch(self, texts: Iterable[str], doing: str, total: int = 0) -> Iterator[str]:
        """The texts as they are; ``total`` is their UTF-8 bytes, if they are known."""
        done = 0
        for text in texts:
            yield text
            done += len(text.encode())
            if time.monotonic() - self.said > SECONDS_BETWEEN_LINES:
                self.said = time.monotonic()
                self.say(f"{doing}: {done / 1e6:,.0f}{f' of {total / 1e6:,.0f}' if total else ''} MB")


class Spool:
    """Documents in a file, in the order in which they came; 40 bytes of memory for each."""

    def __init__(self, file: BinaryIO, texts: Iterable[str]):
        self.file = file
        self.hashes = bytearray()  # sha256, 32 bytes a document
        self.offsets = array("q", [0])  # [documents + 1], bytes
        for text in texts:
            self.append(text)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def append(self, text: str) -> None:
        """One document more."""
        content = text.encode()
        self.file.seek(self.offsets[-1])
        self.file.write(content)
        self.offsets.append(self.offsets[-1] + len(content))
        self.hashes += hashlib.sha256(content).digest()

    def content(self, index: int) -> bytes:
        """The UTF-8 bytes of a document."""
        self.file.seek(self.offsets[index])
        return self.file.read(self.offsets[index + 1] - self.offsets[index])

    def texts(self, indices: Iterable[int]) -> Iterator[str]:
        """These documents, each read when its turn comes."""
        return (self.content(index).decode() for index in indices)

    def sizes(self, indices: np.ndarray) -> np.ndarray:
        """UTF-8 bytes of these documents, int64."""
        offsets = np.array(self.offsets)
        return offsets[indices + 1] - offsets[indices]

    def distinct(self, first: int = 0) -> np.ndarray:
        """Indices of documents from ``first`` on in the order of their hashes, and of equal ones the earliest."""
        hashes = np.frombuffer(self.hashes, ">u8").reshape(-1, 4)[first:].astype(np.uint64)
        order = np.lexsort(hashes.T[::-1])  # a stable sort: equal documents stay in their order
        hashes = hashes[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (hashes[1:] != hashes[:-1]).any(axis=1)
        return order[new] + first


def split_documents(texts: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """``split`` for texts that fit in memory."""
    spool = Spool(io.BytesIO(), texts)
    splits, notes = split(spool)
    return {name: list(spool.texts(part)) for name, part in splits.items()}, notes


def split(spool: Spool) -> tuple[dict[str, np.ndarray], list[str]]:
    """Indices of documents by split, and notes on what was done to them. May append pieces to the spool.

    Equal documents count once. In the order of a hash of their content they go to test, then to validation,
    until each holds 10 % of the bytes and at least two documents; the rest is for training. Fewer than 20
    documents are first cut into contiguous pieces.
    """
    notes = []
    count = len(spool)
    ordered = spool.distinct()
    if len(ordered) < count:
        notes.append(f"{count - len(ordered)} documents were exact copies of others and were left out.")
    if len(ordered) < FEWEST_DOCUMENTS:
        few = np.sort(ordered)  # as they came
        total = sum(map(len, spool.texts(few)))
        for text in spool.texts(few):
            for piece in _pieces(text, total):
                spool.append(piece)
        ordered = spool.distinct(count)
        notes.append(
            f"The corpus has only {len(few)} document{'s' * (len(few) > 1)}: cut into {len(ordered)} contiguous "
            "pieces, so that training and test text come from the same documents."
        )
    sizes = spool.sizes(ordered).tolist()
    wanted = HELD_OUT * sum(sizes)
    splits: dict[str, np.ndarray] = {}
    taken = 0
    for name in ("test", "validation"):
        first, held = taken, 0
        while taken < len(ordered) and (held < wanted or taken - first < 2):
            held += sizes[taken]
            taken += 1
        splits[name] = ordered[first:taken]
    splits["train"] = ordered[taken:]
    if not len(splits["train"]):
        raise PosxError(
            f"A corpus of {sum(sizes)} bytes in {len(ordered)} pieces leaves nothing to train on.",
            "Give more text, or text in more documents of similar size.",
        )
    return splits, notes


def _pieces(text: str, total: int) -> Iterator[str]:
    """Cut a document at white space; all documents, of ``total`` characters, into about FEWEST_DOCUMENTS in all."""
    parts = -(-len(text) * FEWEST_DOCUMENTS // total)
    start = 0
    for part in range(1, parts + 1):
        end = len(text) * part // parts
        # At the next white space, if there is one nearby; some scripts have none.
        gap = re.search(r"\s", text[end - 1 : end + len(text) // (4 * parts)]) if part < parts else None
        end += gap.start() if gap else 0
        if text[start:end].strip():
            yield text[start:end]
        start = max(start, end)


def _build(folder: Path, spool: Spool, vocab_size: int, pace: Pace) -> None:
    splits, notes = split(spool)
    bytes_of = {name: spool.sizes(part) for name, part in splits.items()}
    fitting = np.cumsum(bytes_of["train"]).searchsorted(TOKENIZER_BYTES, side="right")
    learnt = splits["train"][: max(1, fitting)]
    size = int(spool.sizes(learnt).sum())
    tokenizer = train_tokenizer(pace.watch(spool.texts(learnt), "Training the tokenizer", size), vocab_size)
    actual = tokenizer.get_vocab_size()
    if actual < vocab_size:
        notes.append(f"The training text supports only {actual} tokens, not tokenizer.vocab_size={vocab_size}.")
    if len(learnt) < len(splits["train"]):
        notes.append(
            f"The tokenizer was learnt from {size / 1e6:,.0f} MB of the training text, the first {len(learnt):,} "
            "documents in the order of their hashes."
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
