"""From documents to token ids on disk: split by document, tokenised once, mapped into memory.

    CACHE/corpora/<key>/
      corpus.json        hashes, counts, what was done to the documents
      tokenizer.json
      token_bytes.npy    UTF-8 length of every token of the vocabulary, uint16 [V]
      train.bin          token ids, one document after another; likewise validation.bin, test.bin
      train.offsets.npy  int64 [documents + 1]: document d is ids[offsets[d] : offsets[d + 1]]

The key covers the documents' content and the settings, so that a changed file is a new corpus. The folder
appears whole or not at all: two processes that build it at once both succeed, and one of the results stays.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posx.config import DataConfig, TokenizerConfig
from posx.errors import PosxError
from posx.files import read_json, sha256_file, sha256_of, whole_folder, write_json
from posx.sources import documents
from posx.tokenizer import encode, id_dtype, token_bytes, train_tokenizer

SPLITS = ("train", "validation", "test")
HELD_OUT = 0.10  # of the bytes, for test and for validation each
FEWEST_DOCUMENTS = 20  # fewer are first cut into pieces
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
    """The corpus of these settings: from the cache, or built. ``say`` gets a line before slow work."""
    settings = {"version": VERSION, "vocab_size": tokenizer.vocab_size}
    texts: list[str] | None = None
    if data.source == "hub":  # its content is not at hand without a network
        source: Any = [data.path, data.subset, data.text_field, data.join_articles, data.max_bytes]
    else:
        texts = documents(data)
        source = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    folder = cache_dir(data.cache_dir) / "corpora" / sha256_of(settings, source)[:24]
    if not folder.is_dir():
        say(f"Preparing the corpus {data.name}, once: reading, splitting and tokenising it …")
        try:
            _build(folder, documents(data) if texts is None else texts, tokenizer.vocab_size)
        except OSError as error:
            raise PosxError(
                f"The corpus cannot be written to {folder.parent}: {error.strerror or error}.",
                "Set data.cache_dir, or the environment variable POSX_CACHE, to a folder with room.",
            ) from None
    return open_corpus(folder)


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


def split_documents(texts: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Documents by split, and notes on what was done to them.

    Equal documents count once. In the order of a hash of their content they go to test, then to validation,
    until each holds 10 % of the bytes and at least two documents; the rest is for training. Fewer than 20
    documents are first cut into contiguous pieces.
    """
    notes = []
    unique = list(dict.fromkeys(texts))
    if len(unique) < len(texts):
        notes.append(f"{len(texts) - len(unique)} documents were exact copies of others and were left out.")
    if len(unique) < FEWEST_DOCUMENTS:
        pieces = list(dict.fromkeys(_pieces(unique)))
        notes.append(
            f"The corpus has only {len(unique)} document{'s' * (len(unique) > 1)}: cut into {len(pieces)} contiguous "
            "pieces, so that training and test text come from the same documents."
        )
        unique = pieces
    ordered = sorted(unique, key=lambda text: hashlib.sha256(text.encode()).digest())
    sizes = [len(text.encode()) for text in ordered]
    wanted = HELD_OUT * sum(sizes)
    splits: dict[str, list[str]] = {}
    taken = 0
    for name in ("test", "validation"):
        first, held = taken, 0
        while taken < len(ordered) and (held < wanted or taken - first < 2):
            held += sizes[taken]
            taken += 1
        splits[name] = ordered[first:taken]
    splits["train"] = ordered[taken:]
    if not splits["train"]:
        raise PosxError(
            f"A corpus of {sum(sizes)} bytes in {len(ordered)} pieces leaves nothing to train on.",
            "Give more text, or text in more documents of similar size.",
        )
    return splits, notes


def _pieces(texts: list[str]) -> list[str]:
    """Cut documents at white space into about FEWEST_DOCUMENTS contiguous pieces of like size."""
    total = sum(map(len, texts))
    pieces = []
    for text in texts:
        parts = -(-len(text) * FEWEST_DOCUMENTS // total)
        start = 0
        for part in range(1, parts + 1):
            end = len(text) * part // parts
            # At the next white space, if there is one nearby; some scripts have none.
            gap = re.search(r"\s", text[end - 1 : end + len(text) // (4 * parts)]) if part < parts else None
            end += gap.start() if gap else 0
            if text[start:end].strip():
                pieces.append(text[start:end])
            start = max(start, end)
    return pieces


def _build(folder: Path, texts: list[str], vocab_size: int) -> None:
    splits, notes = split_documents(texts)
    tokenizer = train_tokenizer(splits["train"], vocab_size)
    actual = tokenizer.get_vocab_size()
    if actual < vocab_size:
        notes.append(f"The training text supports only {actual} tokens, not tokenizer.vocab_size={vocab_size}.")
    with whole_folder(folder) as temporary:
        tokenizer.save(str(temporary / "tokenizer.json"))
        np.save(temporary / "token_bytes.npy", token_bytes(tokenizer))
        counts = {}
        for name in SPLITS:
            offsets = [0]
            with (temporary / f"{name}.bin").open("wb") as file:
                for ids in encode(tokenizer, splits[name]):
                    file.write(ids.tobytes())
                    offsets.append(offsets[-1] + len(ids))
            np.save(temporary / f"{name}.offsets.npy", np.asarray(offsets, dtype=np.int64))
            counts[name] = {
                "documents": len(splits[name]),
                "bytes": sum(len(text.encode()) for text in splits[name]),
                "tokens": offsets[-1],
            }
        write_json(
            temporary / "corpus.json",
            {
                "sha256": sha256_of(*[[sha256_of(t.encode()) for t in splits[name]] for name in SPLITS]),
                "tokenizer_sha256": sha256_file(temporary / "tokenizer.json"),
                "splits": counts,
                "notes": notes,
            },
        )
